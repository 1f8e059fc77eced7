// Makes layer blobs of which every chunk can be decoded alone.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "codec/checkpoint.h"

namespace pagein::codec {

struct ChunkEncoderOptions {
  Encoding encoding = Encoding::gzip;  // gzip or zstd
  // 0: the default, which docs/full-mode.md reasons for: 6 of libdeflate's
  // 1..12, 4 of libzstd's 1..19.
  int level = 0;
};

// Compresses chunks, each into one gzip member or one zstd frame that refers to
// nothing before it. The blob is the chunks' one after the other, then tail().
//
// Deterministic: a chunk's bytes, the options and the version of libdeflate or
// libzstd (settings() names them) fix the result, whatever this object
// compressed before. Thread-compatible; keep one for each thread: it owns
// about 1 MiB. Never blocks.
class ChunkEncoder {
 public:
  virtual ~ChunkEncoder() = default;

  // Replaces `out`, whose capacity is used again. A chunk may be empty.
  // exhausted beyond kMaxChunkBytes.
  virtual Status encode(ByteView chunk, Bytes& out) = 0;

  // What a result depends on but for the data, for comparing: no two settings
  // with one text give different bytes.
  virtual std::string settings() const = 0;
};

// Far below what the seek table's 32 bits hold.
inline constexpr uint64_t kMaxChunkBytes = 64 << 20;

// invalid_argument for another encoding or a level that it does not have.
Result<std::unique_ptr<ChunkEncoder>> make_chunk_encoder(const ChunkEncoderOptions& options);

// How a span that is a whole chunk starts.
CheckpointKind chunk_kind(Encoding encoding);

}  // namespace pagein::codec
