#include "base/error.h"

#include <cerrno>
#include <system_error>

namespace pagein {

std::string_view to_string(Code code) {
  switch (code) {
    case Code::not_found: return "not found";
    case Code::already_exists: return "already exists";
    case Code::invalid_argument: return "invalid argument";
    case Code::corrupt_input: return "corrupt input";
    case Code::unauthenticated: return "unauthenticated";
    case Code::unavailable: return "unavailable";
    case Code::timeout: return "timeout";
    case Code::cancelled: return "cancelled";
    case Code::exhausted: return "exhausted";
    case Code::unsupported: return "unsupported";
    case Code::failed_precondition: return "failed precondition";
    case Code::internal: return "internal";
  }
  return "unknown";
}

Error Error::with_context(std::string_view context) const {
  return Error(code, std::string(context) + ": " + message, sys_errno);
}

namespace {
Code code_of_errno(int err) {
  switch (err) {
    case ENOENT: return Code::not_found;
    case EEXIST: return Code::already_exists;
    case EINVAL: return Code::invalid_argument;
    case ENOSPC:
    case EDQUOT:
    case EMFILE:
    case ENFILE:
    case ENOMEM: return Code::exhausted;
    case EACCES:
    case EPERM:
    case EBUSY:
    case ENOTDIR:
    case EISDIR:
    case ENOTEMPTY: return Code::failed_precondition;
    case EINTR:
    case EAGAIN:
    case ECONNREFUSED:
    case ECONNRESET:
    case ENETUNREACH:
    case EHOSTUNREACH:
    case EPIPE: return Code::unavailable;
    case ETIMEDOUT: return Code::timeout;
    case ECANCELED: return Code::cancelled;
    case ENOSYS:
    case EOPNOTSUPP:
    case ENOTBLK:
    case ENODEV: return Code::unsupported;
    default: return Code::internal;
  }
}
}  // namespace

Error errno_error(int err, std::string_view doing) {
  return Error(code_of_errno(err), std::string(doing) + ": " + std::system_category().message(err),
               err);
}

int to_errno(const Error& error) {
  if (error.sys_errno == ENOSPC || error.sys_errno == EDQUOT) return error.sys_errno;
  switch (error.code) {
    case Code::not_found: return ENOENT;
    case Code::already_exists: return EEXIST;
    case Code::invalid_argument: return EINVAL;
    case Code::unsupported: return EOPNOTSUPP;
    default: return EIO;
  }
}

}  // namespace pagein
