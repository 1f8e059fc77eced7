#include "registry/docker_config.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstdlib>

#include "base/mutex.h"
#include "oci/json.h"
#include "registry/base64.h"
#include "registry/credential_helper.h"

namespace pagein::registry {

namespace {

constexpr size_t kMaxConfigFile = 1 << 20;

// "https://index.docker.io/v1/" -> "docker.io"; "https://host/v2/" -> "host".
std::string normalize_key(std::string_view key) {
  for (const std::string_view scheme : {"https://", "http://"}) {
    if (key.starts_with(scheme)) key.remove_prefix(scheme.size());
  }
  while (key.ends_with('/')) key.remove_suffix(1);
  for (const std::string_view api : {"/v1", "/v2"}) {
    if (key.ends_with(api)) key.remove_suffix(api.size());
  }
  const std::string_view host = key.substr(0, key.find('/'));
  if (host == "index.docker.io" || host == "registry-1.docker.io") {
    return "docker.io" + std::string(key.substr(host.size()));
  }
  return std::string(key);
}

Error broken(std::string_view key, std::string_view why) {
  return Error(Code::corrupt_input, "Docker config: auths[\"" + std::string(key.substr(0, 200)) +
                                        "\"]: " + std::string(why));
}

Result<Credentials> parse_auth(std::string_view key, const oci::Json& entry) {
  Credentials out;
  if (!entry.is_object()) return broken(key, "not an object");
  ASSIGN_OR_RETURN(out.username, oci::json_string(entry, "username"));
  ASSIGN_OR_RETURN(out.password, oci::json_string(entry, "password"));
  ASSIGN_OR_RETURN(out.identity_token, oci::json_string(entry, "identitytoken"));
  ASSIGN_OR_RETURN(const std::string auth, oci::json_string(entry, "auth"));
  if (auth.empty()) return out;
  const std::optional<std::string> decoded = base64_decode(auth);
  const size_t colon = decoded ? decoded->find(':') : std::string::npos;
  if (colon == std::string::npos) {
    return broken(key, "\"auth\" is not the base64 of user:password; log in again");
  }
  out.username = decoded->substr(0, colon);
  out.password = decoded->substr(colon + 1);
  // Docker pads with NULs, for reasons of its own.
  while (out.password.ends_with('\0')) out.password.pop_back();
  return out;
}

}  // namespace

Result<DockerConfig> DockerConfig::parse(ByteView json) {
  DockerConfig out;
  ASSIGN_OR_RETURN(const oci::Json document,
                   oci::parse_json(json, "Docker config", {.max_bytes = kMaxConfigFile}));
  if (!document.is_object()) return Error(Code::corrupt_input, "Docker config: not an object");
  if (const oci::Json* auths = oci::json_find(document, "auths")) {
    if (!auths->is_object())
      return Error(Code::corrupt_input, "Docker config: auths: not an object");
    for (const auto& [key, entry] : auths->items()) {
      ASSIGN_OR_RETURN(Credentials credentials, parse_auth(key, entry));
      // Empty entries mark what a credential store holds.
      if (!credentials.empty()) out.auths_[normalize_key(key)] = std::move(credentials);
    }
  }
  ASSIGN_OR_RETURN(const auto helpers, oci::json_string_map(document, "credHelpers"));
  for (const auto& [key, helper] : helpers) out.helpers_[normalize_key(key)] = helper;
  ASSIGN_OR_RETURN(out.store_, oci::json_string(document, "credsStore"));
  return out;
}

std::vector<Credentials> DockerConfig::find(std::string_view name) const {
  std::vector<Credentials> out;
  for (std::string_view key = name;;) {
    if (const auto it = auths_.find(key); it != auths_.end()) {
      out.push_back(it->second);
      out.back().source = it->first;
    }
    const size_t slash = key.rfind('/');
    if (slash == std::string_view::npos) return out;
    key = key.substr(0, slash);
  }
}

std::string DockerConfig::helper(std::string_view name) const {
  const auto it = helpers_.find(name.substr(0, name.find('/')));
  return it == helpers_.end() ? store_ : it->second;
}

struct DockerConfigCredentials::State {
  Mutex mutex;
  bool loaded GUARDED_BY(mutex) = false;
  int64_t mtime_sec GUARDED_BY(mutex) = 0;
  int64_t mtime_nsec GUARDED_BY(mutex) = 0;
  int64_t size GUARDED_BY(mutex) = 0;
  DockerConfig config GUARDED_BY(mutex);
};

DockerConfigCredentials::DockerConfigCredentials(std::filesystem::path file)
    : file_(std::move(file)), state_(std::make_unique<State>()) {}

DockerConfigCredentials::~DockerConfigCredentials() = default;

std::filesystem::path DockerConfigCredentials::default_path() {
  if (const char* dir = std::getenv("DOCKER_CONFIG"); dir != nullptr && *dir != '\0') {
    return std::filesystem::path(dir) / "config.json";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home != '\0') {
    return std::filesystem::path(home) / ".docker" / "config.json";
  }
  return {};
}

Status DockerConfigCredentials::reload() {
  MutexLock lock(state_->mutex);
  struct stat st;
  if (::stat(file_.c_str(), &st) != 0) {
    if (errno != ENOENT && errno != ENOTDIR) return errno_error(errno, "look at " + file_.string());
    state_->loaded = false;
    state_->config = DockerConfig();
    return {};
  }
  const bool same = state_->loaded && state_->mtime_sec == st.st_mtim.tv_sec &&
                    state_->mtime_nsec == st.st_mtim.tv_nsec && state_->size == st.st_size;
  if (same) return {};
  ASSIGN_OR_RETURN(const std::string text, read_file(file_, kMaxConfigFile));
  Result<DockerConfig> config = DockerConfig::parse(as_bytes(text));
  if (!config.ok()) return config.error().with_context(file_.string());
  state_->config = *std::move(config);
  state_->loaded = true;
  state_->mtime_sec = st.st_mtim.tv_sec;
  state_->mtime_nsec = st.st_mtim.tv_nsec;
  state_->size = st.st_size;
  return {};
}

Result<std::vector<Credentials>> DockerConfigCredentials::get(std::string_view name) {
  if (file_.empty()) return std::vector<Credentials>();
  RETURN_IF_ERROR(reload());
  DockerConfig config;
  {
    MutexLock lock(state_->mutex);
    config = state_->config;
  }
  std::vector<Credentials> out;
  std::optional<Error> failed;
  const std::string_view host = name.substr(0, name.find('/'));
  if (const std::string helper = config.helper(name); !helper.empty()) {
    Result<Credentials> found = ask_credential_helper(helper, host);
    if (!found.ok()) {
      failed = found.error().with_context(file_.string());
    } else if (!found->empty()) {
      out.push_back(*std::move(found));
    }
  }
  for (Credentials& found : config.find(name)) {
    found.source = "the login for " + found.source + " in " + file_.string();
    out.push_back(std::move(found));
  }
  if (out.empty() && failed) return *std::move(failed);
  return out;
}

}  // namespace pagein::registry
