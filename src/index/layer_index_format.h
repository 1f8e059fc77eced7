// The fixed start of a layer index (docs/formats/layer-index.md, "Header").
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "base/endian.h"
#include "base/sha256.h"

namespace pagein::index {

inline constexpr std::string_view kMagic = "PgnIndex";
inline constexpr uint16_t kVersion = 1;

// Checked before anything is allocated.
inline constexpr uint64_t kMaxHeadBytes = 256 << 20;
inline constexpr uint64_t kMaxRawFilesBytes = 1 << 30;
inline constexpr uint64_t kMaxRawSpansBytes = 512 << 20;
inline constexpr uint64_t kMaxTarBytes = uint64_t{1} << 48;
inline constexpr uint64_t kMaxLayerBytes = uint64_t{1} << 48;

struct FixedHeader {
  std::array<uint8_t, 8> magic;
  le16 version;
  uint8_t encoding;
  std::array<uint8_t, 5> reserved;  // 0
  le32 entry_count;
  le32 span_count;
  le64 span_spacing;
  le64 tar_size;
  le64 layer_size;
  Sha256Bytes diff_id;
  Sha256Bytes layer_digest;
  le32 files_size;      // compressed
  le32 files_raw_size;  // before compression
  le32 spans_size;
  le32 spans_raw_size;
};
static_assert(sizeof(FixedHeader) == 128 && alignof(FixedHeader) == 1);

}  // namespace pagein::index
