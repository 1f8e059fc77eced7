// The payload of a checkpoint: block state and sparse window.
#pragma once

#include <cstdint>
#include <memory>

#include "base/file.h"
#include "base/result.h"
#include "codec/checkpoint.h"
#include "codec/inflate.h"

namespace pagein::codec {

// Format. A payload is empty, or one byte that says how the content is stored
// (0: as it is, 1: one zstd frame with its content size) and then the content:
//
//   block state   only where the checkpoint's kind is mid_block
//     1 byte        bits 0-1: BTYPE (0 stored, 1 fixed, 2 dynamic), bit 2: BFINAL
//     2 bytes       stored only: bytes still to come, little-endian
//     160 bytes     dynamic only: 288 + 32 code lengths of 4 bits, low half first:
//                   literals and lengths, then distances
//   window        the bytes before the checkpoint that are referred to behind
//                 it, each once, in the order in which the decoder first comes
//                 upon them; within one match, by position
//
// The window's positions are not stored, since the compressed data tells them:
// see window_references.h. (With run lists, the payloads of a usual layer were
// a third larger. Among the ways to compress what is left, dictionaries gained
// under 10 %, zstd -9 3 % at four times the cost.)
struct CheckpointPayload {
  BlockState block;  // mid_block only
  Bytes window;      // at most 32 KiB
};

// Thread-compatible; keep one: it owns some 500 KiB.
class PayloadPacker {
 public:
  PayloadPacker();
  ~PayloadPacker();
  PayloadPacker(const PayloadPacker&) = delete;
  PayloadPacker& operator=(const PayloadPacker&) = delete;

  // Deterministic for one version of libzstd.
  Bytes pack(CheckpointKind kind, const CheckpointPayload& payload);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  Bytes content_;
};

// Thread-compatible; keep one: it owns some 160 KiB.
class PayloadUnpacker {
 public:
  PayloadUnpacker();
  ~PayloadUnpacker();
  PayloadUnpacker(PayloadUnpacker&&) noexcept;
  PayloadUnpacker& operator=(PayloadUnpacker&&) noexcept;

  // `packed` may be hostile: corrupt_input if it is not what pack() makes.
  // Whether the block's codes are usable is for the Inflater to say.
  Status unpack(CheckpointKind kind, ByteView packed, CheckpointPayload& payload);

 private:
  struct Context;
  std::unique_ptr<Context> context_;
  Bytes content_;
};

}  // namespace pagein::codec
