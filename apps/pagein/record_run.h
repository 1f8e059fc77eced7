// Runs a bundle until it is ready.
#pragma once

#include <signal.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "apps/pagein/record_bundle.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace pagein::cli {

// When a start is over.
struct Until {
  enum class Kind { exit, seconds, exit_or_seconds, http, log };
  Kind kind = Kind::exit_or_seconds;
  std::chrono::seconds seconds{30};
  std::string what;  // a URL, or a regular expression (POSIX extended)
  std::string text;  // as it was given

  // http:URL (or a URL itself), log:REGEX, seconds:N, exit; "" for the default:
  // exit or 30 seconds, whichever comes first.
  static Result<Until> parse(const std::string& text);
};

struct RecordRunOptions {
  Until until;
  std::chrono::seconds timeout{300};
  // Called about once a second; an error ends the run.
  std::function<Status()> on_tick;
};

// One container of runc's. Confined to the thread that made it. The process's
// output goes to standard error. SIGINT and SIGTERM have to be blocked.
class RecordRun {
 public:
  // Killed and deleted where it still runs.
  ~RecordRun();
  RecordRun(const RecordBundle& bundle) : bundle_(bundle) {}

  // Runs it until the condition holds; returns the time that took.
  //   cancelled: SIGINT or SIGTERM; timeout; failed_precondition: it ended before,
  //   or with an error.
  Result<std::chrono::milliseconds> until_ready(const RecordRunOptions& options);

 private:
  Status start();
  void stop();

  const RecordBundle& bundle_;
  int process_ = -1;  // runc's, while it has not been waited for
  UniqueFd output_;
};

// unsupported where there is no runc.
Status check_runc();

}  // namespace pagein::cli
