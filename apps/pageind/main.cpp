// pageind: the node daemon. Reads the configuration, takes over what a
// predecessor left, serves containerd and the control socket until SIGTERM.

#include <signal.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/log.h"
#include "control/server.h"
#include "mount/fd_store.h"
#include "node/config.h"
#include "node/node.h"
#include "snapshotter/server.h"
#include "snapshotter/snapshotter.h"

namespace pagein {
namespace {

constexpr const char* kDefaultConfig = "/etc/pagein/pageind.toml";
constexpr int kUsage = 2;  // the command line or the configuration makes no sense

// One descriptor for each image that is mounted, a few for each layer.
void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

sigset_t block_signals() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  // Before any thread is made, so that all of them inherit it.
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return set;
}

Result<node::Config> read_config(const std::string& path) {
  Result<node::Config> config = node::load_config(path);
  if (!config.ok() && config.error().code == Code::not_found && path == kDefaultConfig) {
    return node::Config{};
  }
  return config;
}

Status serve(const node::Config& config, const sigset_t& signals) {
  ASSIGN_OR_RETURN(auto fds, mount::take_stored_fds());
  ASSIGN_OR_RETURN(const auto node, node::Node::start(config, std::move(fds)));
  snapshotter::SnapshotterOptions options;
  options.root = config.root / "snapshotter";
  options.backend = node.get();
  ASSIGN_OR_RETURN(const auto snapshotter, snapshotter::Snapshotter::open(options));
  const snapshotter::ReattachReport report = snapshotter->reattach();
  for (const std::string& failed : report.failed) {
    log::warn("a snapshot's image is not mounted", {{"snapshot", failed}});
  }
  RETURN_IF_ERROR(make_dirs(config.socket.parent_path(), 0711));
  snapshotter::ServerOptions server_options;
  server_options.socket = config.socket;
  ASSIGN_OR_RETURN(auto server, snapshotter::Server::start(*snapshotter, server_options));
  ASSIGN_OR_RETURN(auto control, control::Server::start(*node));
  log::info("pageind is ready", {{"version", PAGEIN_VERSION},
                                 {"socket", config.socket.native()},
                                 {"root", config.root.native()},
                                 {"snapshots", report.attached}});
  ::sd_notify(0, "READY=1");
  int signal = 0;
  ::sigwait(&signals, &signal);
  log::info("pageind stops", {{"signal", signal}});
  ::sd_notify(0, "STOPPING=1");
  control.reset();
  server.reset();
  node->stop();
  return {};
}

int run(int argc, char** argv) {
  CLI::App app("Pagein's node daemon: a containerd snapshotter that pages images in.");
  app.set_version_flag("--version", std::string("pageind ") + PAGEIN_VERSION);
  std::string config_path = kDefaultConfig;
  bool check = false;
  app.add_option("--config", config_path,
                 "Configuration file; without the default one every setting has its default")
      ->capture_default_str();
  app.add_flag("--check-config", check, "Check the configuration file and exit");
  app.footer("pageind.toml(5) has every setting.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }

  const Result<node::Config> config = read_config(config_path);
  if (!config.ok()) {
    std::fprintf(stderr, "pageind: %s\n", config.error().message.c_str());
    return kUsage;
  }
  if (check) {
    std::error_code ignored;
    if (std::filesystem::exists(config_path, ignored)) {
      std::printf("%s is fine\n", config_path.c_str());
    } else {
      std::printf("there is no %s: every setting has its default\n", config_path.c_str());
    }
    return 0;
  }
  log::configure(config->log.level, config->log.format);
  const sigset_t signals = block_signals();
  raise_descriptor_limit();
  if (Status status = serve(*config, signals); !status.ok()) {
    log::error("pageind cannot go on", {{"why", status.error().message}});
    return 1;
  }
  return 0;
}

}  // namespace
}  // namespace pagein

int main(int argc, char** argv) { return pagein::run(argc, argv); }
