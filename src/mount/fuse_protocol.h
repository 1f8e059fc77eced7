// The parts of the FUSE kernel protocol that we speak: requests as values, and
// the constants that are newer than the system's header. Source: the kernel's
// include/uapi/linux/fuse.h, version 7.45. Integers are in host byte order.
//
// libfuse is not used: it cannot continue a session without INIT, nor does it
// know FUSE_NOTIFY_RESEND.
#pragma once

#include <linux/fuse.h>

#include <cstring>
#include <string_view>
#include <type_traits>

#include "base/file.h"
#include "base/result.h"

namespace pagein::mount {

// Newer than 7.38.
inline constexpr int kFuseNotifyResend = 7;                       // since 7.40
inline constexpr uint64_t kFuseUniqueResend = uint64_t{1} << 63;  // since 7.40
inline constexpr uint64_t kFusePassthrough = uint64_t{1} << 37;   // INIT flag, since 7.40
inline constexpr uint64_t kFuseHasResend = uint64_t{1} << 39;     // INIT flag, since 7.40

// The longest READ we negotiate (256 pages, the kernel's own default limit).
inline constexpr uint32_t kMaxReadBytes = 1 << 20;

// Nothing is ever written to us, so the smallest buffer the kernel accepts does.
inline constexpr size_t kRequestBufferBytes = FUSE_MIN_READ_BUFFER;
inline constexpr uint32_t kMaxWriteBytes = 4096;

// The view points into the bytes parsed.
struct FuseRequest {
  uint32_t opcode = 0;
  uint64_t unique = 0;  // with the resend bit, as it must be answered
  uint64_t node = 0;
  ByteView body;
};

// corrupt_input unless `bytes` are a whole request: a header whose length is
// that of `bytes`.
Result<FuseRequest> parse_fuse_request(ByteView bytes);

// The argument structure at the start of a request's body.
template <typename T>
Result<T> parse_fuse_argument(const FuseRequest& request) {
  static_assert(std::is_trivially_copyable_v<T>);
  if (request.body.size() < sizeof(T)) {
    return Error(Code::corrupt_input,
                 "FUSE request " + std::to_string(request.opcode) + " is too short");
  }
  T argument;
  std::memcpy(&argument, request.body.data(), sizeof(T));
  return argument;
}

// The NUL-terminated name that is a LOOKUP's body.
Result<std::string_view> parse_fuse_name(const FuseRequest& request);

// INIT's argument; kernels before 7.36 send fewer fields, which stay 0.
Result<fuse_init_in> parse_fuse_init(const FuseRequest& request);

}  // namespace pagein::mount
