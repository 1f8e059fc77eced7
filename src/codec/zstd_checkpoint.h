// The payload of a checkpoint inside a zstd frame, and the dictionary that is
// made of it.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "codec/zstd_blocks.h"
#include "codec/zstd_memory.h"
#include "codec/zstd_window.h"

namespace pagein::codec {

// Format. Empty: the first block of a frame, or one that needs nothing. Else one
// byte that says how the content is stored (0: as it is, 1: one zstd frame with
// its content size) and then the content:
//
//   1 byte     bit 0: a Huffman tree follows, 1: a table of offsets,
//              2: of match lengths, 3: of literal lengths; others 0
//   for each   1 byte: its size; the bytes, as blocks and dictionaries have them
//   3 varints  the last three offsets, at least 1
//   varint     number of runs of window bytes, from the farthest one on
//   each run   varint: bytes between its end and the begin of the one before; of
//              the first run, of its first byte from the checkpoint
//   each run   varint: its length
//   the runs' bytes
//
// Unlike a gzip window's (checkpoint_payload.h), places are stored: libzstd
// decodes, and cannot be asked what it refers to.
struct ZstdCheckpoint {
  ZstdEntropy entropy;
  std::vector<WindowRun> runs;
  Bytes bytes;
  // As at a frame's first block.
  bool needs_nothing() const { return runs.empty() && entropy == ZstdEntropy(); }
};

// `unsupported` where it exceeds kMaxZstdPayloadBytes or its content
// kMaxZstdContentBytes. Thread-compatible.
class ZstdPayloadPacker {
 public:
  ZstdPayloadPacker();
  ~ZstdPayloadPacker();
  ZstdPayloadPacker(const ZstdPayloadPacker&) = delete;
  ZstdPayloadPacker& operator=(const ZstdPayloadPacker&) = delete;
  Result<Bytes> pack(const ZstdCheckpoint& checkpoint);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

inline constexpr uint64_t kMaxZstdContentBytes = 16 << 20;
// How far a checkpoint may refer back: what libzstd itself takes.
inline constexpr uint64_t kMaxZstdWindow = 128 << 20;

// A dictionary in zstd's format (RFC 8878, section 5): magic, tables, offsets,
// and as much window as is referred to, with zeros where nothing is. Takes as
// much memory as the window bytes' pages, at most kMaxZstdWindow.
struct ZstdDictionary {
  ZeroedMemory memory;
  ByteView bytes() const { return {memory.data(), memory.size()}; }
};
// `payload` may be hostile and is not empty: corrupt_input if it is not what pack()
// makes. Whether tables are good is for libzstd to say.
Result<ZstdDictionary> make_zstd_dictionary(ByteView payload);

}  // namespace pagein::codec
