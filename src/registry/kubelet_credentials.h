// kubelet's credential provider plugins: programs that give short-lived
// credentials for images of the registries they know (Kubernetes, "Configure a
// kubelet image credential provider"; API credentialprovider.kubelet.k8s.io/v1).
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/mutex.h"
#include "net/http_client.h"
#include "registry/credentials.h"
#include "registry/program.h"

namespace pagein::registry {

// One of the `providers` of a CredentialProviderConfig.
struct CredentialPlugin {
  std::string name;
  std::string api_version;
  std::vector<std::string> match_images;
  std::chrono::milliseconds cache_duration{0};
  std::vector<std::string> args;
  std::vector<std::string> env;  // "NAME=value"
};

// kind CredentialProviderConfig, YAML or JSON. corrupt_input with the provider
// and key that do not fit.
Result<std::vector<CredentialPlugin>> parse_credential_plugins(std::string_view text);

// Whether a pattern of matchImages is for "host/repository": each part of the
// host's name may have wildcards, a port must be the same, a path is a prefix.
bool image_matches(std::string_view pattern, std::string_view name);

// What a plugin answered.
struct PluginAnswer {
  enum class CacheKey { image, registry, global };
  CacheKey cache_key = CacheKey::image;
  std::optional<std::chrono::milliseconds> cache_duration;
  std::map<std::string, Credentials, std::greater<>> auth;  // by pattern
};
// kind CredentialProviderResponse. Pure.
Result<PluginAnswer> parse_plugin_answer(ByteView json);

// Thread-safe; blocks while a plugin runs (20 s at most). The
// configuration is read again when it changes. What plugins answer is kept in
// memory for as long as they say, and never elsewhere.
class KubeletCredentials : public CredentialProvider {
 public:
  struct Options {
    std::filesystem::path config;   // of --image-credential-provider-config
    std::filesystem::path bin_dir;  // of --image-credential-provider-bin-dir
    std::function<net::Clock::time_point()> now = [] { return net::Clock::now(); };
  };
  explicit KubeletCredentials(Options options) : options_(std::move(options)) {}
  Result<std::vector<Credentials>> get(std::string_view name) override;
  // What is not a minute old stays: asking all the time would not make it better.
  void forget(std::string_view name) override;

 private:
  struct Cached {
    std::map<std::string, Credentials, std::greater<>> auth;
    net::Clock::time_point since;
    net::Clock::time_point expires;
  };
  Status reload() REQUIRES(mutex_);
  Result<std::map<std::string, Credentials, std::greater<>>> ask(const CredentialPlugin& plugin,
                                                                 std::string_view name)
      REQUIRES(mutex_);
  const Cached* find_cached(const std::string& plugin, std::string_view name) REQUIRES(mutex_);

  const Options options_;
  Mutex mutex_;  // held while a plugin runs: one at a time, as in kubelet
  std::vector<CredentialPlugin> plugins_ GUARDED_BY(mutex_);
  std::string stamp_ GUARDED_BY(mutex_);  // of the file that was read
  std::map<std::string, Cached> cache_ GUARDED_BY(mutex_);
};

}  // namespace pagein::registry
