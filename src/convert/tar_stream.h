// The tar inside a layer blob, decoded by zlib or libzstd as any client does: a
// second opinion that shares no code with src/codec.
#pragma once

#include <memory>

#include "base/byte_stream.h"

namespace pagein::convert {

// gzip (any number of members, zero padding), zstd (any number of frames) or
// plain tar, by the first bytes.
std::unique_ptr<ByteStream> make_plain_tar_stream(std::unique_ptr<ByteStream> blob);

}  // namespace pagein::convert
