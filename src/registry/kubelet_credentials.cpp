#include "registry/kubelet_credentials.h"

#include <fnmatch.h>
#include <sys/stat.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "oci/json.h"
#include "registry/go_duration.h"

namespace pagein::registry {

namespace {

constexpr size_t kMaxConfig = 1 << 20;
constexpr size_t kMaxPlugins = 100;
constexpr size_t kMaxCached = 4096;
constexpr std::chrono::seconds kPluginTimeout{20};
constexpr std::chrono::seconds kYoung{60};

Error broken(const std::string& why) {
  return Error(Code::corrupt_input, "credential provider configuration: " + why);
}

std::string scalar(const YAML::Node& node, const char* key) {
  const YAML::Node value = node[key];
  return value && value.IsScalar() ? value.Scalar() : std::string();
}

Result<CredentialPlugin> read_plugin(const YAML::Node& node) {
  CredentialPlugin out;
  if (!node.IsMap()) return broken("a provider is not a map");
  out.name = scalar(node, "name");
  if (out.name.empty() || out.name == "." || out.name == ".." ||
      out.name.find_first_of("/\\") != std::string::npos) {
    return broken("\"" + out.name.substr(0, 100) + "\" cannot be a provider's name");
  }
  out.api_version = scalar(node, "apiVersion");
  if (out.api_version != "credentialprovider.kubelet.k8s.io/v1") {
    return broken(out.name + ": apiVersion must be credentialprovider.kubelet.k8s.io/v1");
  }
  const auto duration = parse_go_duration(scalar(node, "defaultCacheDuration"));
  if (!duration) return broken(out.name + ": defaultCacheDuration must be a duration like 12h");
  out.cache_duration = *duration;
  for (const YAML::Node& pattern : node["matchImages"]) {
    if (pattern.IsScalar()) out.match_images.push_back(pattern.Scalar());
  }
  if (out.match_images.empty()) return broken(out.name + ": matchImages must name some");
  for (const YAML::Node& arg : node["args"]) {
    if (arg.IsScalar()) out.args.push_back(arg.Scalar());
  }
  for (const YAML::Node& entry : node["env"]) {
    const std::string name = entry.IsMap() ? scalar(entry, "name") : std::string();
    if (!name.empty()) out.env.push_back(name + "=" + scalar(entry, "value"));
  }
  return out;
}

struct Place {
  std::string_view host;  // without port
  std::string_view port;
  std::string_view path;
};

Place split(std::string_view text) {
  Place out;
  const size_t slash = std::min(text.find('/'), text.size());
  out.host = text.substr(0, slash);
  out.path = text.substr(slash);
  const size_t colon = out.host.rfind(':');
  const size_t bracket = out.host.rfind(']');
  if (colon != std::string_view::npos && (bracket == std::string_view::npos || bracket < colon)) {
    out.port = out.host.substr(colon + 1);
    out.host = out.host.substr(0, colon);
  }
  return out;
}

// One label of a host's name; takes it off.
std::string take_label(std::string_view* host) {
  const size_t dot = std::min(host->find('.'), host->size());
  std::string out(host->substr(0, dot));
  host->remove_prefix(std::min(dot + 1, host->size()));
  return out;
}

std::string_view host_of(std::string_view name) { return name.substr(0, name.find('/')); }

std::vector<Credentials> matching(const std::map<std::string, Credentials, std::greater<>>& auth,
                                  std::string_view name) {
  std::vector<Credentials> out;
  for (const auto& [pattern, credentials] : auth) {
    if (image_matches(pattern, name)) out.push_back(credentials);
  }
  return out;
}

}  // namespace

bool image_matches(std::string_view pattern, std::string_view name) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (pattern.starts_with(scheme)) pattern.remove_prefix(scheme.size());
  }
  Place want = split(pattern);
  Place have = split(name);
  if (want.port != have.port || !have.path.starts_with(want.path)) return false;
  if (std::count(want.host.begin(), want.host.end(), '.') !=
      std::count(have.host.begin(), have.host.end(), '.')) {
    return false;
  }
  while (!want.host.empty() || !have.host.empty()) {
    const std::string label_pattern = take_label(&want.host);
    if (::fnmatch(label_pattern.c_str(), take_label(&have.host).c_str(), 0) != 0) return false;
  }
  return true;
}

Result<std::vector<CredentialPlugin>> parse_credential_plugins(std::string_view text) {
  std::vector<CredentialPlugin> out;
  // yaml-cpp throws; its nesting is bounded by its own depth guard.
  try {
    const YAML::Node root = YAML::Load(std::string(text));
    if (!root.IsMap() || scalar(root, "kind") != "CredentialProviderConfig") {
      return broken("its kind must be CredentialProviderConfig");
    }
    const YAML::Node providers = root["providers"];
    if (!providers.IsDefined() || !providers.IsSequence() || providers.size() > kMaxPlugins) {
      return broken("providers must be a list");
    }
    for (const YAML::Node& node : providers) {
      ASSIGN_OR_RETURN(CredentialPlugin plugin, read_plugin(node));
      out.push_back(std::move(plugin));
    }
  } catch (const std::exception& error) {
    return broken(error.what());
  }
  return out;
}

Result<PluginAnswer> parse_plugin_answer(ByteView json) {
  const std::string what = "credential provider's answer";
  ASSIGN_OR_RETURN(const oci::Json document,
                   oci::parse_json(json, what, {.max_bytes = kMaxProgramOutput}));
  ASSIGN_OR_RETURN(const std::string kind, oci::json_string(document, "kind"));
  if (kind != "CredentialProviderResponse") {
    return Error(Code::corrupt_input, what + ": its kind is not CredentialProviderResponse");
  }
  PluginAnswer out;
  ASSIGN_OR_RETURN(const std::string key, oci::json_string(document, "cacheKeyType"));
  if (key == "Registry") out.cache_key = PluginAnswer::CacheKey::registry;
  else if (key == "Global") out.cache_key = PluginAnswer::CacheKey::global;
  else if (key != "Image") {
    return Error(Code::corrupt_input, what + ": cacheKeyType must be Image, Registry or Global");
  }
  ASSIGN_OR_RETURN(const std::string duration, oci::json_string(document, "cacheDuration"));
  if (!duration.empty()) {
    out.cache_duration = parse_go_duration(duration);
    if (!out.cache_duration) {
      return Error(Code::corrupt_input, what + ": cacheDuration is not a duration");
    }
  }
  const oci::Json* auth = oci::json_find(document, "auth");
  if (auth == nullptr || auth->is_null()) return out;
  if (!auth->is_object()) return Error(Code::corrupt_input, what + ": auth is not an object");
  for (const auto& [pattern, entry] : auth->items()) {
    Credentials credentials;
    ASSIGN_OR_RETURN(credentials.username, oci::json_string(entry, "username"));
    ASSIGN_OR_RETURN(credentials.password, oci::json_string(entry, "password"));
    if (!credentials.empty()) out.auth[pattern] = std::move(credentials);
  }
  return out;
}

Status KubeletCredentials::reload() {
  struct stat st;
  if (::stat(options_.config.c_str(), &st) != 0) {
    return errno_error(errno, "look at " + options_.config.string());
  }
  const std::string stamp = std::to_string(st.st_mtim.tv_sec) + "." +
                            std::to_string(st.st_mtim.tv_nsec) + "." + std::to_string(st.st_size);
  if (stamp == stamp_) return {};
  ASSIGN_OR_RETURN(const std::string text, read_file(options_.config, kMaxConfig));
  auto plugins = parse_credential_plugins(text);
  if (!plugins.ok()) return plugins.error().with_context(options_.config.string());
  plugins_ = *std::move(plugins);
  stamp_ = stamp;
  cache_.clear();
  return {};
}

const KubeletCredentials::Cached* KubeletCredentials::find_cached(const std::string& plugin,
                                                                  std::string_view name) {
  for (const std::string_view key : {name, host_of(name), std::string_view()}) {
    const auto it = cache_.find(plugin + " " + std::string(key));
    if (it != cache_.end() && it->second.expires > options_.now()) return &it->second;
  }
  return nullptr;
}

Result<std::map<std::string, Credentials, std::greater<>>> KubeletCredentials::ask(
    const CredentialPlugin& plugin, std::string_view name) {
  const nlohmann::json request = {{"apiVersion", plugin.api_version},
                                  {"kind", "CredentialProviderRequest"},
                                  {"image", std::string(name)}};
  const std::string input = request.dump();
  ProgramCall call;
  call.argv = {(options_.bin_dir / plugin.name).string()};
  call.argv.insert(call.argv.end(), plugin.args.begin(), plugin.args.end());
  call.env = plugin.env;
  call.input = input;
  call.timeout = kPluginTimeout;
  ASSIGN_OR_RETURN(const ProgramResult result, run_program(call));
  if (result.exit_code != 0) {
    return Error(Code::unauthenticated,
                 call.argv[0] + " failed with exit code " + std::to_string(result.exit_code));
  }
  Result<PluginAnswer> answer = parse_plugin_answer(as_bytes(result.output));
  if (!answer.ok()) return answer.error().with_context(call.argv[0]);
  for (auto& [pattern, credentials] : answer->auth) {
    credentials.source = "what the credential provider " + plugin.name + " gives for " + pattern;
  }
  const auto lifetime = answer->cache_duration.value_or(plugin.cache_duration);
  if (lifetime.count() > 0) {
    std::string_view key = name;
    if (answer->cache_key == PluginAnswer::CacheKey::registry) key = host_of(name);
    if (answer->cache_key == PluginAnswer::CacheKey::global) key = {};
    if (cache_.size() >= kMaxCached) cache_.clear();
    cache_[plugin.name + " " + std::string(key)] = {answer->auth, options_.now(),
                                                    options_.now() + lifetime};
  }
  return std::move(answer->auth);
}

void KubeletCredentials::forget(std::string_view name) {
  MutexLock lock(mutex_);
  for (const CredentialPlugin& plugin : plugins_) {
    for (const std::string_view key : {name, host_of(name), std::string_view()}) {
      const auto it = cache_.find(plugin.name + " " + std::string(key));
      if (it != cache_.end() && options_.now() - it->second.since >= kYoung) cache_.erase(it);
    }
  }
}

Result<std::vector<Credentials>> KubeletCredentials::get(std::string_view name) {
  // One plugin at a time, as in kubelet: they are asked rarely.
  MutexLock lock(mutex_);
  RETURN_IF_ERROR(reload());
  std::vector<Credentials> out;
  std::optional<Error> first_error;
  for (const CredentialPlugin& plugin : plugins_) {
    const bool wanted =
        std::any_of(plugin.match_images.begin(), plugin.match_images.end(),
                    [&](const std::string& pattern) { return image_matches(pattern, name); });
    if (!wanted) continue;
    std::vector<Credentials> found;
    if (const Cached* cached = find_cached(plugin.name, name)) {
      found = matching(cached->auth, name);
    } else {
      auto asked = ask(plugin, name);
      if (!asked.ok()) {
        if (!first_error) first_error = std::move(asked).error();
        continue;
      }
      found = matching(*asked, name);
    }
    out.insert(out.end(), found.begin(), found.end());
  }
  if (out.empty() && first_error) return *std::move(first_error);
  return out;
}

}  // namespace pagein::registry
