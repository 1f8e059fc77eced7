#include "registry/session.h"

#include "net/url.h"
#include "registry/auth.h"

namespace pagein::registry {

std::string Endpoint::url(std::string_view repository, std::string_view rest) const {
  return origin + "/v2/" + std::string(repository) + "/" + std::string(rest);
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

}  // namespace pagein::registry
