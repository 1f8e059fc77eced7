// What went wrong, as a caller can act on it.
#pragma once

#include <string>
#include <string_view>
#include <utility>

namespace pagein {

// Each code names what a caller can do, not where it happened. Edges (errno,
// gRPC, HTTP) map from these in one table each.
enum class Code {
  not_found,            // it does not exist; asking again will not help
  already_exists,       // it exists; the caller may use that one
  invalid_argument,     // the caller asked for something that makes no sense
  corrupt_input,        // bytes from outside break their format or their digest
  unauthenticated,      // credentials missing, wrong or expired
  unavailable,          // try again: network, busy peer, restarting service
  timeout,              // the deadline passed
  cancelled,            // the caller, or a stop, called it off
  exhausted,            // disk, memory cap, quota
  unsupported,          // valid, but not something this build or kernel can do
  failed_precondition,  // the state does not allow it (in use, wrong kind)
  internal,             // our bug, or an unexpected system error
};

std::string_view to_string(Code code);

// A value; copyable; thread-compatible. `sys_errno` is 0 unless a system call
// was the cause. The message says what was being done, to what, why it failed
// and, where it helps, what to do next. It never holds credentials or queries.
struct [[nodiscard]] Error {
  Code code = Code::internal;
  std::string message;
  int sys_errno = 0;

  Error(Code c, std::string m, int e = 0) : code(c), message(std::move(m)), sys_errno(e) {}

  // The same error with "context: " in front.
  Error with_context(std::string_view context) const;
};

// From errno: ENOENT -> not_found, EEXIST -> already_exists, ENOSPC/EDQUOT/
// EMFILE/ENFILE/ENOMEM -> exhausted, EACCES/EPERM -> failed_precondition,
// EINTR/EAGAIN/connection errors -> unavailable, ETIMEDOUT -> timeout,
// ENOSYS/EOPNOTSUPP/ENOTBLK -> unsupported, others internal.
Error errno_error(int err, std::string_view doing);

// For a reply to the kernel: the errno that stands for `error`.
int to_errno(const Error& error);

}  // namespace pagein
