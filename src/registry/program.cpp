#include "registry/program.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "base/unique_fd.h"

namespace pagein::registry {

namespace {

using Clock = std::chrono::steady_clock;

// Kills and reaps what still runs.
class Child {
 public:
  ~Child() {
    if (pid_ <= 0) return;
    ::kill(-pid_, SIGKILL);
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
  }
  pid_t* out() { return &pid_; }
  // Reaps if it ends by then; the exit code. What has closed its output is
  // about to end, so looking again and again costs little.
  std::optional<int> wait_until(Clock::time_point deadline) {
    int status = 0;
    while (::waitpid(pid_, &status, WNOHANG) != pid_) {
      if (Clock::now() >= deadline) return std::nullopt;
      ::poll(nullptr, 0, 5);
    }
    pid_ = -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  }

 private:
  pid_t pid_ = -1;
};

struct SpawnSettings {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  SpawnSettings() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnSettings() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;
};

Status spawn(const ProgramCall& call, int stdio, pid_t* pid) {
  SpawnSettings settings;
  ::posix_spawn_file_actions_adddup2(&settings.actions, stdio, 0);
  ::posix_spawn_file_actions_adddup2(&settings.actions, stdio, 1);
  ::posix_spawn_file_actions_addopen(&settings.actions, 2, "/dev/null", O_WRONLY, 0);
  // The daemon blocks signals in all its threads; a program wants its own.
  sigset_t none;
  sigset_t usual;
  ::sigemptyset(&none);
  ::sigemptyset(&usual);
  ::sigaddset(&usual, SIGPIPE);
  ::posix_spawnattr_setsigmask(&settings.attributes, &none);
  ::posix_spawnattr_setsigdefault(&settings.attributes, &usual);
  ::posix_spawnattr_setpgroup(&settings.attributes, 0);
  ::posix_spawnattr_setflags(
      &settings.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<char*> argv;
  for (const std::string& arg : call.argv) argv.push_back(const_cast<char*>(arg.c_str()));
  argv.push_back(nullptr);
  std::vector<char*> env;
  for (const std::string& entry : call.env) env.push_back(const_cast<char*>(entry.c_str()));
  for (char** entry = environ; *entry != nullptr; ++entry) env.push_back(*entry);
  env.push_back(nullptr);
  const int failed = ::posix_spawnp(pid, argv[0], &settings.actions, &settings.attributes,
                                    argv.data(), env.data());
  if (failed == 0) return {};
  if (failed == ENOENT) {
    return Error(Code::not_found, "there is no program " + call.argv[0] + " in PATH");
  }
  return errno_error(failed, "start " + call.argv[0]);
}

Error timed_out(const ProgramCall& call) {
  return Error(Code::timeout, call.argv[0] + " has not ended within " +
                                  std::to_string(call.timeout.count()) + " s");
}

}  // namespace

Result<ProgramResult> run_program(const ProgramCall& call) {
  int pair[2];
  // A socket pair rather than pipes: writing to a program that has gone gives
  // EPIPE without a signal.
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
    return errno_error(errno, "make a socket pair");
  }
  UniqueFd mine(pair[0]);
  UniqueFd theirs(pair[1]);
  Child child;
  RETURN_IF_ERROR(spawn(call, theirs.get(), child.out()));
  theirs.reset();
  const Clock::time_point deadline = Clock::now() + call.timeout;
  ProgramResult out;
  std::string_view input = call.input;
  bool writing = true;
  for (;;) {
    if (writing && input.empty()) {
      ::shutdown(mine.get(), SHUT_WR);
      writing = false;
    }
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) {
      return timed_out(call);
    }
    pollfd wait{mine.get(), static_cast<short>(POLLIN | (writing ? POLLOUT : 0)), 0};
    if (::poll(&wait, 1, static_cast<int>(left.count())) < 0 && errno != EINTR) {
      return errno_error(errno, "wait for " + call.argv[0]);
    }
    if (writing && (wait.revents & POLLOUT) != 0) {
      const ssize_t n = ::send(mine.get(), input.data(), input.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n > 0) input.remove_prefix(static_cast<size_t>(n));
      if (n < 0 && errno != EAGAIN && errno != EINTR) input = {};  // it does not listen
    }
    if ((wait.revents & (POLLIN | POLLHUP | POLLERR)) == 0) continue;
    char buffer[16384];
    const ssize_t n = ::recv(mine.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (n <= 0) break;
    out.output.append(buffer, static_cast<size_t>(n));
    if (out.output.size() > kMaxProgramOutput) {
      return Error(Code::exhausted, call.argv[0] + " says more than it may");
    }
  }
  const std::optional<int> code = child.wait_until(deadline);
  if (!code) return timed_out(call);
  out.exit_code = *code;
  return out;
}

}  // namespace pagein::registry
