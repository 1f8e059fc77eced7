// pageind's configuration file (docs/configuration.md).
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "mount/engine_set.h"

namespace pagein::node {

// Every key with its default; docs/configuration.md describes each. A value.
struct Config {
  std::filesystem::path root = "/var/lib/pagein";
  std::filesystem::path socket = "/run/pagein/pageind.sock";   // containerd's proxy plugin
  std::filesystem::path control = "/run/pagein/control.sock";  // pagein status, mount, ...

  struct {             // metrics_address
    std::string host;  // empty: off
    uint16_t port = 0;
  } metrics;

  struct {
    log::Level level = log::Level::info;
    log::Format format = log::Format::text;
  } log;

  struct {
    // "registry.example/team/app", or a prefix that ends in "/*".
    std::vector<std::string> repositories;
  } trust;

  struct {
    std::set<std::string> plain_http;     // hosts reached without TLS, beside loopback
    std::filesystem::path docker_config;  // empty: $DOCKER_CONFIG or ~/.docker/config.json
    std::vector<std::filesystem::path> credential_files;  // more of that form
    // kubelet's credential provider plugins; both or neither.
    std::filesystem::path credential_provider_config;
    std::filesystem::path credential_provider_bin_dir;
    std::string ca_file;
    std::filesystem::path hosts_dir = "/etc/containerd/certs.d";  // empty: none
  } registry;

  struct {
    std::chrono::seconds deadline{120};  // of one demand read
    bool background = true;
    size_t background_flights = 2;
    uint64_t background_bytes_per_second = 0;  // 0: no limit
    size_t connections_per_host = 16;
    bool startup_pack = true;     // where an image names one
    size_t prefetch_flights = 2;  // ranges of layers at once, beside the pack
  } fetch;

  struct {
    uint64_t max_bytes = 0;     // of all layers on disk; 0: no such limit
    unsigned max_percent = 80;  // of the file system
  } store;

  struct {
    mount::EngineChoice engine = mount::EngineChoice::automatic;
    unsigned threads = 2;   // that serve FUSE requests
    bool buffered = false;  // cache device files too: more memory, more read-ahead
  } mount;
};

// corrupt_input with line and key for a value that does not fit; unknown keys
// are errors too, so that a typing mistake does not go unseen.
Result<Config> parse_config(std::string_view toml);
// not_found where there is no such file.
Result<Config> load_config(const std::filesystem::path& path);

}  // namespace pagein::node
