// What is needed to start decoding a layer blob in the middle.
#pragma once

#include <cstdint>

#include "base/file.h"
#include "base/result.h"

namespace pagein::codec {

// How a layer blob carries its tar. The values are those of the layer index.
enum class Encoding : uint8_t {
  identity = 0,     // plain tar
  gzip = 1,         // one or more gzip members (RFC 1952)
  zstd = 2,         // one or more zstd frames, skippable ones among them (RFC 8878)
  zstd_blocks = 3,  // the same, with checkpoints inside frames
};

// The values are those of the layer index.
enum class CheckpointKind : uint8_t {
  identity = 0,        // plain tar: a byte position; no payload
  member_start = 1,    // first byte of a gzip member's header; no payload
  block_boundary = 2,  // next bit is a deflate block's header; payload: window
  mid_block = 3,       // next bit goes on inside a deflate block; payload: block state, window
  frame_start = 4,     // first byte of a zstd frame; no payload
  frame_block = 5,     // first byte of a block's header in a zstd frame; payload: what is in force
};

// A checkpoint without its payload, as the layer index keeps it. A value.
struct StartPoint {
  CheckpointKind kind = CheckpointKind::identity;
  uint64_t compressed_bit = 0;  // position in the blob, in bits
  bool operator==(const StartPoint&) const = default;
};

// A place where decoding can start. The payload (see checkpoint_payload.h for
// its format) is opaque to everybody but this folder; it may be empty for
// block_boundary too, when nothing before the checkpoint is referenced.
// A value; thread-compatible.
struct Checkpoint {
  uint64_t uncompressed_offset = 0;  // bytes of tar before it
  uint64_t compressed_bit = 0;       // position in the blob, in bits, least significant bit first
  CheckpointKind kind = CheckpointKind::identity;
  Bytes payload;
};

// The decoder's view of a checkpoint: the same without what it need not know
// (of compressed_bit, only bit 0..2 matter to it). The payload is not owned.
struct SpanStart {
  CheckpointKind kind = CheckpointKind::identity;
  uint64_t compressed_bit = 0;
  ByteView payload = {};
};

inline SpanStart span_start(const Checkpoint& checkpoint) {
  return {checkpoint.kind, checkpoint.compressed_bit, checkpoint.payload};
}

// The compressed bytes of the spans from one checkpoint up to another one:
// [first_byte(from.compressed_bit), end_byte(to.compressed_bit)). Where no
// checkpoint follows, up to IndexSummary::compressed_end. Nothing else is ever
// needed: a mid_block checkpoint carries its block's Huffman codes.
constexpr uint64_t first_byte(uint64_t compressed_bit) { return compressed_bit / 8; }
constexpr uint64_t end_byte(uint64_t compressed_bit) {
  return compressed_bit / 8 + (compressed_bit % 8 != 0 ? 1 : 0);
}

// Whether a decoder that comes from the span before can go on into one that
// begins so. Inside a zstd frame it cannot: its window is only what the span
// before needs.
constexpr bool can_go_on(CheckpointKind kind) { return kind != CheckpointKind::frame_block; }

// No payload is longer than this; a reader refuses longer ones unread.
inline constexpr uint64_t kMaxPayloadBytes = 40 << 10;
// Of kind frame_block.
inline constexpr uint64_t kMaxZstdPayloadBytes = 16 << 20;
constexpr uint64_t max_payload_bytes(CheckpointKind kind) {
  return kind == CheckpointKind::frame_block ? kMaxZstdPayloadBytes : kMaxPayloadBytes;
}

}  // namespace pagein::codec
