// What a startup pack looks like in bytes, and its limits
// (docs/formats/startup-pack.md).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/endian.h"

namespace pagein::startup {

inline constexpr std::string_view kPackMagic = "PGINPACK";
inline constexpr uint32_t kPackVersion = 1;

// Checked before anything is allocated.
inline constexpr uint32_t kMaxPackLayers = 4096;  // as many as a manifest may have
inline constexpr uint32_t kMaxPackPieces = 1 << 20;
inline constexpr uint32_t kMaxSpanNumber = 1 << 24;   // as many as a layer index may have
inline constexpr uint64_t kMaxPieceBytes = 8 << 20;   // of tar, in a stored piece
inline constexpr uint64_t kMaxStoredPiece = 9 << 20;  // of its frame
inline constexpr uint64_t kMaxPackBytes = 1 << 30;    // of the blob

// The blob: header | layer table (SHA-256 each) | piece table | frames.
// "Head" is all before the frames.
struct FixedPackHeader {
  std::array<uint8_t, 8> magic;
  le32 version;
  le32 layer_count;
  le32 piece_count;
  le32 reserved;  // 0
  le64 head_size;
};
static_assert(sizeof(FixedPackHeader) == 32 && alignof(FixedPackHeader) == 1);

struct PieceRow {
  le32 layer;
  le32 first_span;
  le32 span_count;
  le32 stored_size;
};
static_assert(sizeof(PieceRow) == 16 && alignof(PieceRow) == 1);

inline constexpr uint64_t kMaxPackHeadBytes =
    sizeof(FixedPackHeader) + uint64_t{32} * kMaxPackLayers + sizeof(PieceRow) * kMaxPackPieces;

}  // namespace pagein::startup
