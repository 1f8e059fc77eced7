// The commands of the CLI: each adds its flags to the parser and says what to
// run. A run returns the process's exit code.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "registry/session.h"

namespace pagein::cli {

enum Exit : int {
  kOk = 0,
  kFailed = 1,   // it was tried and did not work
  kUsage = 2,    // the command line makes no sense
  kDiffers = 3,  // check: the images differ
  kInterrupted = 130,
};

using Run = std::function<int()>;

void add_convert(CLI::App& app, Run* run);
void add_inspect(CLI::App& app, Run* run);
void add_check(CLI::App& app, Run* run);
void add_pull(CLI::App& app, Run* run);
void add_record(CLI::App& app, Run* run);
void add_node_commands(CLI::App& app, Run* run);  // mount, umount, status, why, gc
void add_doctor(CLI::App& app, Run* run);

// Flags that every command with a registry has.
struct RegistryFlags {
  bool plain_http = false;
  std::string ca_file;
  std::string docker_config;
  std::string plugin_config;
  std::string plugin_bin_dir;
  std::string hosts_dir = "/etc/containerd/certs.d";
  void add_to(CLI::App* command);
  // `locations`: references whose hosts --plain-http covers.
  Result<std::shared_ptr<registry::Session>> open(const std::vector<std::string>& locations) const;
};

// "pagein: MESSAGE" to standard error; returns kFailed.
int fail(const Error& error);
// A LOCATION as the daemon takes it, which may run in another folder.
std::string daemon_location(const std::string& location);
// What a LOCATION may be, for the help of commands that take one.
extern const char* const kLocationHelp;
// 12.3 MB, as people write it (powers of ten).
std::string human_bytes(uint64_t bytes);

}  // namespace pagein::cli
