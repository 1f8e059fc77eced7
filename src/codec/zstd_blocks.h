// The blocks of a zstd frame (RFC 8878, section 3.1.1.2), read for what they
// refer to and not for their content.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "base/file.h"
#include "base/result.h"
#include "codec/zstd_tables.h"
#include "codec/zstd_window.h"

namespace pagein::codec {

inline constexpr size_t kZstdBlockHeader = 3;
inline constexpr size_t kZstdMaxBlock = 128 << 10;  // of content, compressed or not

struct ZstdBlockHeader {
  enum class Type : uint8_t { raw = 0, rle = 1, compressed = 2 };
  Type type = Type::raw;
  bool last = false;
  uint32_t size = 0;  // of a raw or RLE block what it yields, else its bytes

  uint32_t content_bytes() const { return type == Type::rle ? 1 : size; }
};
// Of 3 bytes. corrupt_input: reserved type, or beyond 128 KiB.
Result<ZstdBlockHeader> parse_zstd_block_header(ByteView bytes);

// The header of a frame, behind its magic number (section 3.1.1.1).
struct ZstdFrameHeader {
  uint64_t window = 0;
  bool checksum = false;
  size_t bytes = 0;  // of the header
};
// Its size by its first byte.
size_t zstd_frame_header_bytes(uint8_t descriptor);
Result<ZstdFrameHeader> parse_zstd_frame_header(ByteView bytes);

// What a decoder that starts at a block has to be told: the tables that the
// blocks behind use without describing them, as a dictionary holds them, and
// the last three offsets. Empty: not used.
struct ZstdEntropy {
  Bytes huffman;
  std::array<Bytes, kSequenceFields> tables;  // by SequenceField
  std::array<uint64_t, 3> offsets = {1, 4, 8};
  bool operator==(const ZstdEntropy&) const = default;
};

// Follows one frame. First parse() a compressed block, then execute() it; raw
// and RLE blocks change nothing but the place. Thread-compatible. Where both
// agree that a block is good, so does libzstd; the opposite is not promised.
class ZstdBlockWalker {
 public:
  void begin_frame(uint64_t tar_offset, uint64_t window);

  // Bytes that have to be readable before and behind a block's content.
  static constexpr size_t kSlack = 16;

  Status parse(ByteView content);
  bool yields_nothing() const { return literals_ == 0 && sequences_ == 0; }
  // At the block that was parsed, decoding can start: no table that it uses
  // is one that a dictionary cannot hold (an RLE table).
  bool can_start_here() const;
  // The same at a raw or RLE block.
  bool has_rle_table() const;
  // begin_entropy() at such a block, before execute(); what take_entropy()
  // then gives is complete for the blocks executed since.
  void begin_entropy();
  ZstdEntropy take_entropy() { return std::move(entropy_); }

  // What the block yields, in bytes. Every match is given to `window`.
  Result<uint32_t> execute(ZstdWindow& window);
  void skip(uint32_t yields) { position_ += yields; }

 private:
  enum class Mode : uint8_t { predefined = 0, rle = 1, described = 2, repeat = 3 };
  struct Field {
    bool known = false;  // a table is in force
    bool rle = false;
    Bytes description;  // unless it is RLE
    SequenceTable table;
    bool asked = true;  // begin_entropy() has its answer
  };

  Status parse_literals();
  Status parse_sequences();
  Status parse_table(SequenceField field, ByteView* rest);
  void ask_for(SequenceField field);
  Result<uint32_t> run_sequences(ZstdWindow& window);
  Field& field(SequenceField f) { return fields_[static_cast<size_t>(f)]; }

  // The block that was parsed.
  ByteView content_;
  size_t literals_bytes_ = 0;  // of the literals section
  uint32_t literals_ = 0;      // that it yields
  ByteView new_huffman_;
  bool treeless_ = false;
  uint32_t sequences_ = 0;
  std::array<Mode, kSequenceFields> modes_{};
  struct Described {
    std::optional<SymbolCounts> counts;
    ByteView bytes;
    uint8_t symbol = 0;
  };
  std::array<Described, kSequenceFields> described_;
  ByteView bitstream_;

  // In force.
  std::array<Field, kSequenceFields> fields_;
  Bytes huffman_;
  bool huffman_asked_ = true;
  std::array<uint64_t, 3> offsets_{};
  ZstdEntropy entropy_;

  uint64_t frame_begin_ = 0;
  uint64_t window_ = 0;
  uint64_t position_ = 0;  // offset in the tar
};

}  // namespace pagein::codec
