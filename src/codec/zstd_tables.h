// The FSE tables by which a zstd block's sequences are coded (RFC 8878,
// sections 3.1.1.3.2.1 and 4.1).
#pragma once

#include <array>
#include <cstdint>

#include "base/file.h"
#include "base/result.h"

namespace pagein::codec {

// In the order in which a block describes them.
enum class SequenceField : uint8_t { literal_length = 0, offset = 1, match_length = 2 };
inline constexpr size_t kSequenceFields = 3;
inline constexpr std::array<SequenceField, kSequenceFields> kAllSequenceFields = {
    SequenceField::literal_length, SequenceField::offset, SequenceField::match_length};

inline constexpr size_t kMaxSequenceLog = 9;       // section 3.1.1.3.2.1
inline constexpr size_t kMaxSequenceSymbols = 53;  // of match lengths

// How often each symbol occurs, of 1 << log; -1: less than once.
struct SymbolCounts {
  std::array<int16_t, kMaxSequenceSymbols> counts{};
  size_t symbols = 0;
  unsigned log = 0;
};

// A description as blocks and dictionaries hold it (section 4.1.1). `used`:
// bytes of `in` that it takes. corrupt_input if it is none for that field.
Result<SymbolCounts> read_symbol_counts(SequenceField field, ByteView in, size_t* used);
// The inverse, for counts without zeros.
Bytes write_symbol_counts(const SymbolCounts& counts);

// What is in force where a block names no table of its own (section
// 3.1.1.3.2.2).
const SymbolCounts& predefined_counts(SequenceField field);

// A value is `baseline` plus as many bits as `extra_bits` says; the next cell
// is `next` plus `state_bits` bits.
struct SequenceCell {
  uint32_t baseline = 0;
  uint16_t next = 0;
  uint8_t state_bits = 0;
  uint8_t extra_bits = 0;
};

// Thread-compatible. Any index below 1 << log() is a cell, whatever was built.
class SequenceTable {
 public:
  void build(SequenceField field, const SymbolCounts& counts);
  // The same symbol always; false if there is none of that number.
  bool build_rle(SequenceField field, uint8_t symbol);

  unsigned log() const { return log_; }
  const SequenceCell* cells() const { return cells_.data(); }

 private:
  std::array<SequenceCell, size_t{1} << kMaxSequenceLog> cells_{};
  unsigned log_ = 0;
};

}  // namespace pagein::codec
