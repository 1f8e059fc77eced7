#include "registry/hosts_file.h"

#include <unistd.h>

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <algorithm>
#include <charconv>

#include "base/file.h"
#include "net/url.h"

namespace pagein::registry {

namespace {

constexpr uint64_t kMaxHostsFile = 256 << 10;
constexpr uint64_t kMaxCaFile = 4 << 20;
constexpr size_t kMaxHeaders = 64;

Error broken(const toml::node* node, std::string_view what) {
  const std::string line =
      node == nullptr ? "" : "line " + std::to_string(node->source().begin.line) + ": ";
  return Error(Code::corrupt_input, "hosts.toml: " + line + std::string(what));
}

std::string clean_path(std::string_view path) {
  std::string out = std::filesystem::path(path).lexically_normal().string();
  while (out.ends_with('/')) out.pop_back();
  return out;
}

// "https://host/path" or "host" -> origin and path.
Status read_address(std::string text, const toml::node* node, bool override_path,
                    RegistryHost* out) {
  if (text.find("://") == std::string::npos) text = "https://" + text;
  const Result<net::Url> url = net::parse_url(text);
  if (!url.ok()) return broken(node, "\"" + text.substr(0, 200) + "\" is no http or https URL");
  if (!url->query.empty()) return broken(node, "an address must have no '?'");
  out->origin = url->origin();
  out->path = clean_path(url->path);
  if (!override_path && !out->path.ends_with("/v2")) out->path += "/v2";
  return {};
}

Status read_capabilities(const toml::table& table, RegistryHost* out) {
  const toml::node* node = table.get("capabilities");
  if (node == nullptr) return {};
  const toml::array* list = node->as_array();
  if (list == nullptr) return broken(node, "capabilities must be a list");
  if (list->empty()) return {};
  out->resolve = out->pull = out->push = false;
  for (const toml::node& element : *list) {
    const std::string name = element.value_or(std::string());
    if (name == "pull") out->pull = true;
    else if (name == "resolve") out->resolve = true;
    else if (name == "push") out->push = true;
    else return broken(&element, "capabilities are \"pull\", \"resolve\" and \"push\"");
  }
  return {};
}

std::string file_path(const std::filesystem::path& dir, const std::string& name) {
  return name.starts_with('/') ? name : (dir / name).string();
}

// "file" or ["file", ...]
Result<std::vector<std::string>> file_list(const toml::node& node, std::string_view key) {
  if (const auto one = node.value_exact<std::string>()) return std::vector<std::string>{*one};
  std::vector<std::string> out;
  if (const toml::array* list = node.as_array()) {
    for (const toml::node& element : *list) {
      const auto name = element.value_exact<std::string>();
      if (!name) return broken(&element, std::string(key) + " must be a file or a list of files");
      out.push_back(*name);
    }
    return out;
  }
  return broken(&node, std::string(key) + " must be a file or a list of files");
}

// "cert-and-key", ["cert-and-key", ...] or [["cert", "key"], ...]. The first is used: libcurl shows
// one certificate to a host.
Status read_client(const toml::node& node, const std::filesystem::path& dir, net::TlsOptions* tls) {
  const toml::node* first = &node;
  if (const toml::array* list = node.as_array()) {
    if (list->empty()) return {};
    first = list->get(0);
  }
  if (const auto both = first->value_exact<std::string>()) {
    tls->client_cert_file = tls->client_key_file = file_path(dir, *both);
    return {};
  }
  const toml::array* pair = first->as_array();
  const auto text = [&](size_t i) { return pair->get(i)->value_or(std::string()); };
  if (pair == nullptr || pair->empty() || pair->size() > 2 || text(0).empty()) {
    return broken(first, "client must be a file, or pairs of certificate and key");
  }
  tls->client_cert_file = file_path(dir, text(0));
  const std::string key = pair->size() == 2 ? text(1) : "";
  tls->client_key_file = key.empty() ? tls->client_cert_file : file_path(dir, key);
  return {};
}

Status read_tls(const toml::table& table, const std::filesystem::path& dir, RegistryHost* out) {
  const toml::node* ca = table.get("ca");
  const toml::node* client = table.get("client");
  const toml::node* skip = table.get("skip_verify");
  if (ca == nullptr && client == nullptr && skip == nullptr) return {};
  auto tls = std::make_shared<net::TlsOptions>();
  if (skip != nullptr) {
    const auto value = skip->value_exact<bool>();
    if (!value) return broken(skip, "skip_verify must be true or false");
    if (*value) tls->verify = net::TlsOptions::Verify::off;
  }
  if (ca != nullptr) {
    ASSIGN_OR_RETURN(const std::vector<std::string> files, file_list(*ca, "ca"));
    for (const std::string& name : files) out->ca_files.push_back(file_path(dir, name));
  }
  if (client != nullptr) RETURN_IF_ERROR(read_client(*client, dir, tls.get()));
  out->tls = std::move(tls);
  return {};
}

Status read_headers(const toml::table& table, RegistryHost* out) {
  const toml::node* node = table.get("header");
  if (node == nullptr) return {};
  const toml::table* headers = node->as_table();
  if (headers == nullptr || headers->size() > kMaxHeaders) {
    return broken(node, "header must be a table of texts");
  }
  for (const auto& [key, value] : *headers) {
    ASSIGN_OR_RETURN(const std::vector<std::string> texts, file_list(value, "header"));
    for (const std::string& text : texts) out->headers.add(std::string(key.str()), text);
  }
  return {};
}

// Go's durations, as far as a timeout needs them: "300ms", "5s", "1m30s".
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text) {
  std::chrono::milliseconds sum{0};
  if (text.empty()) return std::nullopt;
  while (!text.empty()) {
    uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc() || number > 86'400'000) return std::nullopt;
    text.remove_prefix(static_cast<size_t>(end - text.data()));
    const size_t unit_end = std::min(text.find_first_of("0123456789"), text.size());
    const std::string_view unit = text.substr(0, unit_end);
    if (unit == "ms") sum += std::chrono::milliseconds(number);
    else if (unit == "s") sum += std::chrono::seconds(number);
    else if (unit == "m") sum += std::chrono::minutes(number);
    else if (unit == "h") sum += std::chrono::hours(number);
    else return std::nullopt;
    text.remove_prefix(unit_end);
  }
  return sum;
}

Status read_dial_timeout(const toml::table& table, RegistryHost* out) {
  const toml::node* node = table.get("dial_timeout");
  if (node == nullptr) return {};
  const auto value = parse_duration(node->value_or(std::string()));
  if (!value || value->count() <= 0) {
    return broken(node, "dial_timeout must be a duration such as \"5s\"");
  }
  out->dial_timeout = *value;
  return {};
}

bool overrides_path(const toml::table& table) { return table["override_path"].value_or(false); }

Status read_settings(const toml::table& table, const std::filesystem::path& dir,
                     RegistryHost* out) {
  RETURN_IF_ERROR(read_capabilities(table, out));
  RETURN_IF_ERROR(read_tls(table, dir, out));
  RETURN_IF_ERROR(read_headers(table, out));
  return read_dial_timeout(table, out);
}

Status read_server(const toml::table& root, const std::filesystem::path& dir,
                   const RegistryHost& registry, std::vector<RegistryHost>* hosts) {
  RegistryHost server = registry;
  const toml::node* node = root.get("server");
  const auto address =
      node == nullptr ? std::optional<std::string>("") : node->value_exact<std::string>();
  if (!address) return broken(node, "server must be a text");
  RETURN_IF_ERROR(read_settings(root, dir, &server));
  if (address->empty()) {
    // As containerd does: the registry of the image's name may do everything.
    server.resolve = server.pull = server.push = true;
  } else {
    RETURN_IF_ERROR(read_address(*address, node, overrides_path(root), &server));
    server.mirror = server.origin != registry.origin;
  }
  hosts->push_back(std::move(server));
  return {};
}

}  // namespace

Result<std::vector<RegistryHost>> parse_hosts_file(std::string_view text,
                                                   const std::filesystem::path& dir,
                                                   const RegistryHost& registry) {
  if (text.size() > kMaxHostsFile) return Error(Code::exhausted, "hosts.toml: longer than 256 KiB");
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    return Error(Code::corrupt_input, "hosts.toml: line " +
                                          std::to_string(parsed.error().source().begin.line) +
                                          ": " + std::string(parsed.error().description()));
  }
  const toml::table& root = parsed.table();
  std::vector<RegistryHost> hosts;
  if (const toml::node* node = root.get("host")) {
    const toml::table* table = node->as_table();
    if (table == nullptr || table->size() > kMaxHosts) {
      return broken(node, "host must be a table of at most 32 hosts");
    }
    // The library sorts a table's keys; the file's order counts here.
    std::vector<std::pair<std::string, const toml::node*>> entries;
    for (const auto& [key, value] : *table) entries.emplace_back(std::string(key.str()), &value);
    std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
      const auto begin_a = a.second->source().begin;
      const auto begin_b = b.second->source().begin;
      return std::pair(begin_a.line, begin_a.column) < std::pair(begin_b.line, begin_b.column);
    });
    for (const auto& [address, value] : entries) {
      const toml::table* settings = value->as_table();
      if (settings == nullptr) return broken(value, "a host must be a table");
      RegistryHost host;
      RETURN_IF_ERROR(read_address(address, value, overrides_path(*settings), &host));
      RETURN_IF_ERROR(read_settings(*settings, dir, &host));
      host.mirror = host.origin != registry.origin;
      hosts.push_back(std::move(host));
    }
  }
  RETURN_IF_ERROR(read_server(root, dir, registry, &hosts));
  return hosts;
}

std::vector<std::filesystem::path> host_folders(const std::filesystem::path& root,
                                                std::string_view host) {
  std::vector<std::filesystem::path> out;
  const size_t colon = host.rfind(':');
  if (colon != std::string_view::npos && !host.ends_with(']')) {
    std::string name = std::string(host.substr(0, colon));
    std::erase(name, ':');  // of an IPv6 address, as containerd does
    out.push_back(root / (name + "_" + std::string(host.substr(colon + 1)) + "_"));
  }
  out.push_back(root / std::string(host));
  out.push_back(root / "_default");
  return out;
}

namespace {

// Docker's way, where a folder has no hosts.toml: *.crt are CAs, NAME.cert and NAME.key a client's.
Result<std::vector<RegistryHost>> load_certificates(const std::filesystem::path& dir,
                                                    RegistryHost registry) {
  std::vector<std::filesystem::path> files;
  std::error_code error;
  for (std::filesystem::directory_iterator it(dir, error), end; !error && it != end;
       it.increment(error)) {
    if (files.size() < 1000) files.push_back(it->path());
  }
  if (error) return errno_error(error.value(), "read " + dir.string());
  std::sort(files.begin(), files.end());
  auto tls = std::make_shared<net::TlsOptions>();
  for (const std::filesystem::path& file : files) {
    if (file.extension() == ".crt") registry.ca_files.push_back(file.string());
    if (file.extension() != ".cert" || !tls->client_cert_file.empty()) continue;
    std::filesystem::path key = file;
    key.replace_extension(".key");
    if (std::find(files.begin(), files.end(), key) == files.end()) continue;
    tls->client_cert_file = file.string();
    tls->client_key_file = key.string();
  }
  if (!registry.ca_files.empty() || !tls->client_cert_file.empty()) {
    registry.tls = std::move(tls);
    // Who has certificates speaks TLS, on loopback too.
    constexpr std::string_view kPlain = "http://";
    if (registry.origin.starts_with(kPlain)) {
      registry.origin = "https://" + registry.origin.substr(kPlain.size());
    }
  }
  return std::vector<RegistryHost>{std::move(registry)};
}

Result<std::vector<RegistryHost>> with_cas(Result<std::vector<RegistryHost>> hosts) {
  if (!hosts.ok()) return hosts;
  for (RegistryHost& host : *hosts) {
    if (host.ca_files.empty()) continue;
    auto tls = std::make_shared<net::TlsOptions>(*host.tls);
    for (const std::string& file : host.ca_files) {
      ASSIGN_OR_RETURN(const std::string pem, read_file(file, kMaxCaFile));
      tls->ca_pem += pem + "\n";
    }
    host.tls = std::move(tls);
  }
  return hosts;
}

}  // namespace

Result<std::vector<RegistryHost>> load_hosts(const std::filesystem::path& root,
                                             std::string_view host, const RegistryHost& registry) {
  if (root.empty()) return std::vector<RegistryHost>{registry};
  for (const std::filesystem::path& dir : host_folders(root, host)) {
    std::error_code error;
    if (!std::filesystem::is_directory(dir, error)) continue;
    const Result<std::string> text = read_file(dir / "hosts.toml", kMaxHostsFile);
    if (!text.ok() && text.error().code != Code::not_found) return text.error();
    if (!text.ok() || text->empty()) return with_cas(load_certificates(dir, registry));
    Result<std::vector<RegistryHost>> hosts = parse_hosts_file(*text, dir, registry);
    if (!hosts.ok()) return hosts.error().with_context(dir.string());
    return with_cas(std::move(hosts));
  }
  return std::vector<RegistryHost>{registry};
}

}  // namespace pagein::registry
