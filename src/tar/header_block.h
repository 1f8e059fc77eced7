// One 512-byte header block of a tar archive.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/file.h"
#include "base/result.h"

namespace pagein::tar {

inline constexpr uint64_t kBlockSize = 512;

// Which layout the bytes behind the v7 fields have. Told by the magic and
// version fields, and for star by its trailer.
enum class Dialect : uint8_t {
  v7,     // none
  ustar,  // POSIX.1-1988 and pax: name prefix of 155 bytes
  star,   // prefix of 131 bytes, then atime and ctime
  gnu,    // no prefix: atime, ctime, old sparse map
};

// Views point into the block that was parsed.
struct HeaderBlock {
  Dialect dialect = Dialect::v7;
  char type = '0';
  std::string_view name;
  std::string_view prefix;  // not empty: the path is prefix + "/" + name
  std::string_view link_name;
  int64_t mode = 0;
  int64_t uid = 0;
  int64_t gid = 0;
  int64_t size = 0;
  int64_t mtime = 0;
  int64_t dev_major = 0;
  int64_t dev_minor = 0;
};

// `block` has kBlockSize bytes. corrupt_input for a wrong checksum (the sum of
// unsigned or of signed bytes is accepted) or a malformed number.
Result<HeaderBlock> parse_header_block(ByteView block);

bool is_zero_block(ByteView block);

// The bytes up to the first NUL, or all.
std::string_view c_string(ByteView field);

}  // namespace pagein::tar
