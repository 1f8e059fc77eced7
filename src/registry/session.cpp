#include "registry/session.h"

#include <algorithm>
#include <numeric>

#include "net/url.h"
#include "registry/auth.h"

namespace pagein::registry {

namespace {

// How much slower a mirror must be than one behind it to be asked after it.
constexpr int kFarSlower = 3;
constexpr std::chrono::milliseconds kNoticeable{20};

Endpoint make_endpoint(const RegistryHost& host, const Endpoint& registry) {
  Endpoint out = registry;
  out.origin = host.origin;
  out.path = host.path;
  out.mirror = host.mirror;
  if (host.tls != nullptr || host.mirror) out.tls = host.tls != nullptr ? host.tls : registry.tls;
  if (host.mirror) out.headers = {};
  for (const auto& [name, value] : host.headers.all()) out.headers.add(name, value);
  out.dial_timeout = host.dial_timeout;
  return out;
}

}  // namespace

std::string Endpoint::url(std::string_view repository, std::string_view rest) const {
  std::string out = origin + path + "/" + std::string(repository) + "/" + std::string(rest);
  if (mirror) {
    out += (rest.find('?') == std::string_view::npos ? "?ns=" : "&ns=") + net::percent_encode(host);
  }
  return out;
}

std::string Endpoint::credentials_name(const oci::Reference& name) const {
  if (!mirror) return name.name();
  return origin.substr(origin.find("://") + 3) + "/" + name.repository();
}

Session::Session(SessionOptions options)
    : options_(std::move(options)),
      auth_(std::make_shared<Authenticator>(options_.client, options_.scheduler,
                                            options_.credentials)) {}

Result<std::shared_ptr<Session>> Session::create(SessionOptions options) {
  if (options.client == nullptr) {
    ASSIGN_OR_RETURN(options.client, net::Client::create());
  }
  if (options.scheduler == nullptr) options.scheduler = make_scheduler(options.client);
  return std::shared_ptr<Session>(new Session(std::move(options)));
}

Endpoint Session::endpoint(const oci::Reference& reference) const {
  Endpoint out;
  out.host = reference.host();
  const std::string host = out.host == "docker.io" ? "registry-1.docker.io" : out.host;
  const auto tls = options_.host_tls.find(out.host);
  const bool plain = (net::is_loopback_host(host) && tls == options_.host_tls.end()) ||
                     options_.plain_http.contains(out.host);
  out.origin = (plain ? "http://" : "https://") + host;
  out.tls = tls == options_.host_tls.end() ? options_.tls : tls->second;
  out.headers = options_.headers;
  return out;
}

Result<std::vector<Endpoint>> Session::endpoints(const oci::Reference& reference,
                                                 Capability capability) const {
  const Endpoint registry = endpoint(reference);
  if (options_.hosts_dir.empty()) return std::vector<Endpoint>{registry};
  RegistryHost server;
  server.origin = registry.origin;
  Result<std::vector<RegistryHost>> hosts =
      load_hosts(options_.hosts_dir, reference.host(), server);
  if (!hosts.ok()) {
    return Error(Code::failed_precondition, hosts.error().message);
  }
  std::vector<Endpoint> out;
  for (const RegistryHost& host : *hosts) {
    if (host.can(capability)) out.push_back(make_endpoint(host, registry));
  }
  if (out.empty()) {
    return Error(Code::failed_precondition,
                 reference.host() + ": no host in its hosts.toml below " +
                     options_.hosts_dir.string() + " has the capability that this needs");
  }
  return out;
}

std::vector<size_t> Session::order(const std::vector<Endpoint>& endpoints) const {
  std::vector<size_t> out(endpoints.size());
  std::iota(out.begin(), out.end(), 0);
  if (out.size() == 1) return out;
  const net::Clock::time_point now = scheduler().now();
  const auto latency = [&](size_t i) {
    return client().link(endpoints[i].origin).least_first_byte;
  };
  // Not a sort: "far slower" is no order.
  for (size_t i = 0; i + 1 < out.size(); ++i) {
    if (!endpoints[out[i]].mirror || !endpoints[out[i + 1]].mirror) continue;
    const auto first = latency(out[i]);
    const auto second = latency(out[i + 1]);
    if (second.count() > 0 && first > second * kFarSlower + kNoticeable) {
      std::swap(out[i], out[i + 1]);
    }
  }
  std::stable_partition(out.begin(), out.end(),
                        [&](size_t i) { return !health_.rests(endpoints[i].key(), now); });
  return out;
}

}  // namespace pagein::registry
