// A containerd of the test's own: root, state and socket in a temporary
// folder. Tests only.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

#include "base/file.h"
#include "containerd/client.h"

namespace pagein::containerd {

class TestContainerd {
 public:
  // Why it cannot run here; "" if it can.
  static std::string missing() {
    if (::geteuid() != 0) return "containerd needs root";
    if (::access("/usr/bin/containerd", X_OK) != 0) return "containerd is not installed";
    return {};
  }

  // With a proxy snapshotter plugin "pagein" on that socket, unless empty.
  explicit TestContainerd(const std::filesystem::path& dir, const std::string& plugin_socket = {})
      : dir_(dir) {
    std::ofstream config(dir / "config.toml");
    config << "version = 2\nroot = '" << (dir / "root").string() << "'\nstate = '"
           << (dir / "state").string() << "'\n"
           << "disabled_plugins = ['io.containerd.grpc.v1.cri', "
              "'io.containerd.internal.v1.opt']\n"
           << "[grpc]\naddress = '" << socket() << "'\n"
           << "[ttrpc]\naddress = '" << socket() << ".ttrpc'\n";
    if (!plugin_socket.empty()) {
      config << "[proxy_plugins.pagein]\ntype = 'snapshot'\naddress = '" << plugin_socket << "'\n";
    }
    config.close();
    start();
  }
  ~TestContainerd() {
    stop(SIGTERM);
    // What a killed unpack left.
    for (;;) {
      std::ifstream mounts("/proc/self/mounts");
      std::string found;
      for (std::string device, at, rest; mounts >> device >> at && std::getline(mounts, rest);) {
        if (at.starts_with(dir_.string())) found = at;
      }
      if (found.empty() || ::umount2(found.c_str(), MNT_DETACH) != 0) return;
    }
  }

  void start() {
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGTERM);
      const UniqueFd log(::open((dir_ / "log").c_str(), O_CREAT | O_WRONLY | O_APPEND, 0644));
      ::dup2(log.get(), 1);
      ::dup2(log.get(), 2);
      // The unpack helper's temporary mounts stay below our folder.
      ::setenv("TMPDIR", dir_.c_str(), 1);
      ::execl("/usr/bin/containerd", "containerd", "-c", (dir_ / "config.toml").c_str(), nullptr);
      ::_exit(127);
    }
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!client()->version().ok() && std::chrono::steady_clock::now() < deadline) {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
  }
  void stop(int signal) {
    if (pid_ <= 0) return;
    ::kill(pid_, signal);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

  std::string socket() const { return (dir_ / "c.sock").string(); }
  std::unique_ptr<Client> client(std::stop_token stop = {}) const {
    return Client::open({.socket = socket(), .name_space = "test"}, std::move(stop));
  }

 private:
  const std::filesystem::path dir_;
  pid_t pid_ = -1;
};

}  // namespace pagein::containerd
