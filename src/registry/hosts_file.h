// containerd's certs.d/HOST/hosts.toml: where a registry's images are really
// asked for (containerd docs/hosts.md).
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "net/http_client.h"

namespace pagein::registry {

inline constexpr size_t kMaxHosts = 32;  // of one hosts.toml

// What a host may be asked for: manifests by tag; what has a digest; uploads.
enum class Capability { resolve, pull, push };

// One host of a registry, in the order to ask them. A value.
struct RegistryHost {
  std::string origin;        // "https://mirror.example:5000"
  std::string path = "/v2";  // before "/REPOSITORY/..."; without a '/' at its end
  bool resolve = true;
  bool pull = true;
  bool push = true;
  bool mirror = false;  // not the registry itself: gets none of its credentials, is told ?ns=
  std::shared_ptr<const net::TlsOptions> tls;  // nullptr: the session's
  std::vector<std::string> ca_files;           // PEM; load_hosts() puts them into `tls`
  net::Headers headers;
  std::chrono::milliseconds dial_timeout{0};  // 0: the default

  bool can(Capability capability) const {
    return capability == Capability::resolve ? resolve
           : capability == Capability::pull  ? pull
                                             : push;
  }
};

// The hosts in the file's order, then its `server` (without one: `registry`, with the default
// settings). `dir` is where relative paths begin. Pure. corrupt_input names the line or the host.
Result<std::vector<RegistryHost>> parse_hosts_file(std::string_view toml,
                                                   const std::filesystem::path& dir,
                                                   const RegistryHost& registry);

// The folders that may describe `host`, best first: host_port_, host:port, _default.
std::vector<std::filesystem::path> host_folders(const std::filesystem::path& root,
                                                std::string_view host);

// Reads the folder of `host`, and the CA files it names, below `root`; `registry` alone if there is
// none. Blocks on disk.
Result<std::vector<RegistryHost>> load_hosts(const std::filesystem::path& root,
                                             std::string_view host, const RegistryHost& registry);

}  // namespace pagein::registry
