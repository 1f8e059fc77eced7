#include "apps/pagein/record_run.h"

#include <fcntl.h>
#include <poll.h>
#include <regex.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <charconv>
#include <thread>

#include "base/guard.h"
#include "net/http_client.h"

extern char** environ;

namespace pagein::cli {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kMaxLine = 64 << 10;
constexpr std::chrono::milliseconds kProbeEvery{50};
constexpr std::chrono::seconds kProbeTimeout{5};
constexpr int kTickMs = 50;

// runc with its output to `output` (or to ours), in a process group of its own:
// what the terminal sends comes to us alone.
Result<int> spawn_runc(std::vector<std::string> args, int output) {
  args.insert(args.begin(), "runc");
  std::vector<char*> argv;
  for (std::string& arg : args) argv.push_back(arg.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  if (output >= 0) {
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
  } else {
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  }
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  pid_t pid = -1;
  const int failed = posix_spawnp(&pid, "runc", &actions, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    return Error(Code::unsupported, "runc cannot be run (" +
                                        errno_error(failed, "posix_spawn").message +
                                        "): it starts the container; install it");
  }
  return static_cast<int>(pid);
}

int wait_for(int pid) {
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

// Asks a URL over and over, on a thread of its own.
class HttpProbe {
 public:
  static Result<std::unique_ptr<HttpProbe>> start(const std::string& url) {
    ASSIGN_OR_RETURN(auto client, net::Client::create());
    return std::unique_ptr<HttpProbe>(new HttpProbe(std::move(client), url));
  }
  ~HttpProbe() {
    stop_ = true;
    thread_.join();
  }
  bool ready() const { return ready_; }

 private:
  HttpProbe(std::shared_ptr<net::Client> client, const std::string& url)
      : client_(std::move(client)), thread_([this, url] { guard("probe", [&] { run(url); }); }) {}

  void run(const std::string& url) {
    while (!stop_ && !ready_) {
      net::Request request;
      request.url = url;
      request.deadline = net::Clock::now() + kProbeTimeout;
      const auto answer = client_->perform(std::move(request), 16 << 20);
      ready_ = answer.ok() && answer->head.status >= 200 && answer->head.status < 400;
      if (!ready_) std::this_thread::sleep_for(kProbeEvery);
    }
  }

  const std::shared_ptr<net::Client> client_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> ready_{false};
  std::thread thread_;
};

// Passes output on and looks at its lines.
class LogWatch {
 public:
  static Result<LogWatch> make(const Until& until) {
    LogWatch watch;
    if (until.kind != Until::Kind::log) return watch;
    watch.regex_ = std::shared_ptr<regex_t>(new regex_t, [](regex_t* regex) {
      ::regfree(regex);
      delete regex;
    });
    if (::regcomp(watch.regex_.get(), until.what.c_str(), REG_EXTENDED | REG_NOSUB) != 0) {
      return Error(Code::invalid_argument,
                   "--until log:" + until.what + " is not a regular expression");
    }
    return watch;
  }
  void take(std::string_view text) {
    std::fwrite(text.data(), 1, text.size(), stderr);
    if (regex_ == nullptr) return;
    for (const char c : text) {
      if (c != '\n' && line_.size() < kMaxLine) {
        line_ += c == '\0' ? ' ' : c;
        continue;
      }
      found_ = found_ || ::regexec(regex_.get(), line_.c_str(), 0, nullptr, 0) == 0;
      line_.clear();
    }
  }
  bool found() const { return found_; }

 private:
  std::shared_ptr<regex_t> regex_;
  std::string line_;
  bool found_ = false;
};

Error ended_early(int status, bool was_awaited) {
  const std::string how = WIFSIGNALED(status)
                              ? "by signal " + std::to_string(WTERMSIG(status))
                              : "with exit code " + std::to_string(WEXITSTATUS(status));
  return Error(Code::failed_precondition, "the container's process ended " + how +
                                              (was_awaited ? "" : " before it was ready") +
                                              ": nothing is recorded; what it said is above");
}

}  // namespace

Result<Until> Until::parse(const std::string& text) {
  Until until;
  until.text = text;
  const auto rest = [&](std::string_view prefix) { return text.substr(prefix.size()); };
  if (text.empty()) {
    until.text = "exit or seconds:30";
  } else if (text == "exit") {
    until.kind = Kind::exit;
  } else if (text.starts_with("seconds:")) {
    until.kind = Kind::seconds;
    const std::string number = rest("seconds:");
    int64_t seconds = 0;
    const auto [end, error] =
        std::from_chars(number.data(), number.data() + number.size(), seconds);
    if (error != std::errc() || end != number.data() + number.size() || seconds < 1 ||
        seconds > 86400) {
      return Error(Code::invalid_argument, "--until " + text + ": seconds are 1 to 86400");
    }
    until.seconds = std::chrono::seconds(seconds);
  } else if (text.starts_with("http://") || text.starts_with("https://")) {
    until.kind = Kind::http;
    until.what = text;
  } else if (text.starts_with("http:http://") || text.starts_with("http:https://")) {
    until.kind = Kind::http;
    until.what = rest("http:");
  } else if (text.starts_with("log:") && text.size() > 4) {
    until.kind = Kind::log;
    until.what = rest("log:");
  } else {
    return Error(Code::invalid_argument,
                 "--until " + text + ": write http:URL, log:REGEX, seconds:N or exit");
  }
  return until;
}

Status check_runc() {
  ASSIGN_OR_RETURN(const int pid, spawn_runc({"--version"}, -1));
  const int status = wait_for(pid);
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  return Error(Code::unsupported, "runc cannot be run: it starts the container; install it");
}

RecordRun::~RecordRun() { stop(); }

Status RecordRun::start() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return errno_error(errno, "make a pipe");
  output_ = UniqueFd(ends[0]);
  const UniqueFd theirs(ends[1]);
  const std::string root = bundle_.dir() / "runc";
  ASSIGN_OR_RETURN(process_, spawn_runc({"--root", root, "run", "--bundle", bundle_.dir().native(),
                                         bundle_.id()},
                                        theirs.get()));
  return {};
}

void RecordRun::stop() {
  const std::string root = bundle_.dir() / "runc";
  if (process_ >= 0) {
    // It may be that runc has not made the container yet: then runc itself is all.
    for (int attempt = 0; attempt < 100; ++attempt) {
      const auto killer = spawn_runc({"--root", root, "kill", bundle_.id(), "KILL"}, -1);
      if (killer.ok()) wait_for(*killer);
      if (::waitpid(process_, nullptr, WNOHANG) != 0) break;
      if (attempt == 40) ::kill(process_, SIGKILL);
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    process_ = -1;
  }
  if (!output_) return;
  output_.reset();
  const auto cleaner = spawn_runc({"--root", root, "delete", "--force", bundle_.id()}, -1);
  if (cleaner.ok()) wait_for(*cleaner);
}

Result<std::chrono::milliseconds> RecordRun::until_ready(const RecordRunOptions& options) {
  const Until& until = options.until;
  ASSIGN_OR_RETURN(LogWatch log, LogWatch::make(until));
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGINT);
  sigaddset(&stops, SIGTERM);
  const UniqueFd signals(::signalfd(-1, &stops, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!signals) return errno_error(errno, "signalfd");
  const auto begin = Clock::now();
  RETURN_IF_ERROR(start());
  std::unique_ptr<HttpProbe> probe;
  if (until.kind == Until::Kind::http) {
    ASSIGN_OR_RETURN(probe, HttpProbe::start(until.what));
  }
  const bool may_end =
      until.kind == Until::Kind::exit || until.kind == Until::Kind::exit_or_seconds;
  const bool timed =
      until.kind == Until::Kind::seconds || until.kind == Until::Kind::exit_or_seconds;
  auto last_tick = begin;
  bool open = true;
  for (;;) {
    pollfd fds[] = {{signals.get(), POLLIN, 0}, {open ? output_.get() : -1, POLLIN, 0}};
    ::poll(fds, std::size(fds), kTickMs);
    const auto now = Clock::now();
    const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(now - begin);
    if (fds[0].revents != 0) return Error(Code::cancelled, "interrupted");
    if (fds[1].revents != 0) {
      char buffer[16 << 10];
      const ssize_t n = ::read(output_.get(), buffer, sizeof buffer);
      if (n > 0) log.take(std::string_view(buffer, static_cast<size_t>(n)));
      else open = false;
    }
    if (log.found() || (probe != nullptr && probe->ready())) return elapsed;
    int status = 0;
    if (!open && ::waitpid(process_, &status, WNOHANG) == process_) {
      process_ = -1;
      if (may_end && WIFEXITED(status) && WEXITSTATUS(status) == 0) return elapsed;
      return ended_early(status, may_end);
    }
    if (timed && elapsed >= until.seconds) return elapsed;
    if (elapsed >= options.timeout) {
      return Error(Code::timeout, "it was not ready after " +
                                      std::to_string(options.timeout.count()) +
                                      " s (--timeout): nothing is recorded");
    }
    if (now - last_tick < std::chrono::seconds(1)) continue;
    last_tick = now;
    RETURN_IF_ERROR(options.on_tick());
  }
}

}  // namespace pagein::cli
