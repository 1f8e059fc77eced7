// The tar inside a layer blob, decoded by zlib: a second opinion that shares no
// code with src/codec.
#pragma once

#include <memory>

#include "base/byte_stream.h"

namespace pagein::convert {

// gzip (any number of members, zero padding) or plain tar, by the first bytes.
std::unique_ptr<ByteStream> make_zlib_tar_stream(std::unique_ptr<ByteStream> blob);

}  // namespace pagein::convert
