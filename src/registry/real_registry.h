// For tests only: Debian's docker-registry on a loopback port of its own, with
// its storage in a temporary folder.
#pragma once

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <memory>
#include <string>
#include <thread>

#include "base/file.h"

namespace pagein::registry {

class RealRegistry {
 public:
  enum class Login { none, htpasswd };
  static constexpr const char* kProgram = "/usr/bin/docker-registry";
  static constexpr const char* kUser = "pagein";
  static constexpr const char* kPassword = "secret-pass";

  // nullptr: not installed, or it does not start.
  static std::unique_ptr<RealRegistry> start(Login login = Login::none) {
    if (!std::filesystem::exists(kProgram)) return nullptr;
    auto out = std::unique_ptr<RealRegistry>(new RealRegistry());
    return out->launch(login) ? std::move(out) : nullptr;
  }
  ~RealRegistry() {
    if (pid_ > 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
    if (drain_.joinable()) drain_.join();
  }
  RealRegistry(const RealRegistry&) = delete;
  RealRegistry& operator=(const RealRegistry&) = delete;

  std::string host() const { return "127.0.0.1:" + port_; }

 private:
  RealRegistry() : dir_(*TempDir::make("real-registry")) {}

  bool launch(Login login) {
    std::string config =
        "version: 0.1\nlog: {level: info}\nstorage:\n  delete: {enabled: true}\n  filesystem: "
        "{rootdirectory: " +
        (dir_.path() / "data").string() + "}\nhttp: {addr: '127.0.0.1:0'}\n";
    if (login == Login::htpasswd) {
      const std::filesystem::path file = dir_.path() / "htpasswd";
      // bcrypt of kPassword, at the lowest cost.
      const std::string line =
          std::string(kUser) + ":$2y$04$abcdefghijklmnopqrstuuTG6d.sp3peJ6F9EzCIZGfe/12vDxgmu\n";
      if (!replace_file(file, as_bytes(line)).ok()) return false;
      config += "auth: {htpasswd: {realm: test, path: " + file.string() + "}}\n";
    }
    const std::string path = (dir_.path() / "config.yml").string();
    if (!replace_file(path, as_bytes(config)).ok()) return false;
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    UniqueFd reader(ends[0]);
    UniqueFd writer(ends[1]);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), 1);
    ::posix_spawn_file_actions_adddup2(&actions, writer.get(), 2);
    std::string args[] = {kProgram, "serve", path};
    char* argv[] = {args[0].data(), args[1].data(), args[2].data(), nullptr};
    const int failed = ::posix_spawn(&pid_, kProgram, &actions, nullptr, argv, environ);
    ::posix_spawn_file_actions_destroy(&actions);
    writer.reset();
    if (failed != 0) {
      pid_ = -1;
      return false;
    }
    return wait_for_port(std::move(reader));
  }

  // Its log says where it listens.
  bool wait_for_port(UniqueFd reader) {
    static constexpr std::string_view kSign = "listening on 127.0.0.1:";
    std::string log;
    char buffer[4096];
    while (port_.empty()) {
      const ssize_t n = ::read(reader.get(), buffer, sizeof buffer);
      if (n <= 0) return false;
      log.append(buffer, static_cast<size_t>(n));
      const size_t at = log.find(kSign);
      const size_t end = at == std::string::npos
                             ? std::string::npos
                             : log.find_first_not_of("0123456789", at + kSign.size());
      if (end != std::string::npos) port_ = log.substr(at + kSign.size(), end - at - kSign.size());
    }
    drain_ = std::thread([fd = std::move(reader)] {
      char sink[4096];
      while (::read(fd.get(), sink, sizeof sink) > 0) {
      }
    });
    return true;
  }

  TempDir dir_;
  pid_t pid_ = -1;
  std::string port_;
  std::thread drain_;
};

}  // namespace pagein::registry
