#include "codec/zstd_tables.h"

#include <algorithm>
#include <bit>

namespace pagein::codec {
namespace {

struct Value {
  uint32_t baseline;
  uint8_t extra_bits;
};

// RFC 8878, tables 15 and 16.
constexpr std::array<Value, 36> kLiteralLengths = {
    {{0, 0},     {1, 0},      {2, 0},      {3, 0},     {4, 0},   {5, 0},     {6, 0},     {7, 0},
     {8, 0},     {9, 0},      {10, 0},     {11, 0},    {12, 0},  {13, 0},    {14, 0},    {15, 0},
     {16, 1},    {18, 1},     {20, 1},     {22, 1},    {24, 2},  {28, 2},    {32, 3},    {40, 3},
     {48, 4},    {64, 6},     {128, 7},    {256, 8},   {512, 9}, {1024, 10}, {2048, 11}, {4096, 12},
     {8192, 13}, {16384, 14}, {32768, 15}, {65536, 16}}};
constexpr size_t kPlainMatchLengths = 32;  // 3 to 34
constexpr std::array<Value, 21> kLongMatchLengths = {
    {{35, 1},    {37, 1},    {39, 1},    {41, 1},    {43, 2},     {47, 2},     {51, 3},
     {59, 3},    {67, 4},    {83, 4},    {99, 5},    {131, 7},    {259, 8},    {515, 9},
     {1027, 10}, {2051, 11}, {4099, 12}, {8195, 13}, {16387, 14}, {32771, 15}, {65539, 16}}};

struct FieldLimits {
  size_t symbols;
  unsigned max_log;
};
constexpr FieldLimits limits_of(SequenceField field) {
  switch (field) {
    case SequenceField::literal_length: return {kLiteralLengths.size(), 9};
    case SequenceField::offset: return {32, 8};
    case SequenceField::match_length: break;
  }
  return {kPlainMatchLengths + kLongMatchLengths.size(), 9};
}

Value value_of(SequenceField field, size_t symbol) {
  switch (field) {
    case SequenceField::literal_length: return kLiteralLengths[symbol];
    case SequenceField::offset: return {uint32_t{1} << symbol, static_cast<uint8_t>(symbol)};
    case SequenceField::match_length: break;
  }
  if (symbol < kPlainMatchLengths) return {static_cast<uint32_t>(symbol + 3), 0};
  return kLongMatchLengths[symbol - kPlainMatchLengths];
}

// Tables 17 to 19.
SymbolCounts make_predefined(SequenceField field) {
  static constexpr std::array<int8_t, 36> kLiteralCounts = {4, 3, 2, 2, 2, 2, 2, 2, 2,  2,  2,  2,
                                                            2, 1, 1, 1, 2, 2, 2, 2, 2,  2,  2,  2,
                                                            2, 3, 2, 1, 1, 1, 1, 1, -1, -1, -1, -1};
  static constexpr std::array<int8_t, 29> kOffsetCounts = {
      1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1};
  SymbolCounts made;
  switch (field) {
    case SequenceField::literal_length:
      std::copy(kLiteralCounts.begin(), kLiteralCounts.end(), made.counts.begin());
      made.symbols = kLiteralCounts.size();
      made.log = 6;
      break;
    case SequenceField::offset:
      std::copy(kOffsetCounts.begin(), kOffsetCounts.end(), made.counts.begin());
      made.symbols = kOffsetCounts.size();
      made.log = 5;
      break;
    case SequenceField::match_length: {
      static constexpr std::array<int8_t, 9> kShort = {1, 4, 3, 2, 2, 2, 2, 2, 2};
      made.counts.fill(1);
      std::copy(kShort.begin(), kShort.end(), made.counts.begin());
      std::fill(made.counts.begin() + 46, made.counts.end(), int16_t{-1});
      made.symbols = made.counts.size();
      made.log = 6;
      break;
    }
  }
  return made;
}

// Bits of a byte string from its beginning, lowest first; zeros behind its end.
class ForwardBits {
 public:
  explicit ForwardBits(ByteView in) : in_(in) {}
  unsigned read(unsigned n) {
    unsigned value = 0;
    for (unsigned i = 0; i < n; ++i, ++at_) {
      const unsigned byte = at_ / 8 < in_.size() ? in_[at_ / 8] : 0;
      value |= (byte >> (at_ % 8) & 1) << i;
    }
    return value;
  }
  void back_one() { --at_; }
  size_t bytes() const { return (at_ + 7) / 8; }

 private:
  ByteView in_;
  size_t at_ = 0;
};

unsigned high_bit(unsigned value) { return static_cast<unsigned>(std::bit_width(value)) - 1; }

}  // namespace

Result<SymbolCounts> read_symbol_counts(SequenceField field, ByteView in, size_t* used) {
  const FieldLimits limits = limits_of(field);
  ForwardBits bits(in);
  SymbolCounts made;
  made.log = bits.read(4) + 5;
  if (made.log > limits.max_log) return Error(Code::corrupt_input, "zstd: an FSE table too large");
  int remaining = 1 << made.log;
  while (remaining > 0) {
    if (made.symbols >= limits.symbols) {
      return Error(Code::corrupt_input, "zstd: an FSE table with too many symbols");
    }
    const auto top = static_cast<unsigned>(remaining + 1);
    const unsigned width = high_bit(top) + 1;
    const unsigned low_mask = (1U << (width - 1)) - 1;
    const unsigned threshold = (1U << width) - 1 - top;
    unsigned value = bits.read(width);
    if ((value & low_mask) < threshold) {
      bits.back_one();
      value &= low_mask;
    } else if (value > low_mask) {
      value -= threshold;
    }
    const int count = static_cast<int>(value) - 1;
    remaining -= count < 0 ? 1 : count;
    made.counts[made.symbols++] = static_cast<int16_t>(count);
    if (count != 0) continue;
    for (unsigned zeros = 3; zeros == 3;) {
      zeros = bits.read(2);
      made.symbols += zeros;  // at most a few beyond what the loop's head checks
      if (made.symbols > limits.symbols) {
        return Error(Code::corrupt_input, "zstd: an FSE table with too many symbols");
      }
    }
  }
  if (remaining < 0 || bits.bytes() > in.size()) {
    return Error(Code::corrupt_input, "zstd: a broken FSE table");
  }
  *used = bits.bytes();
  return made;
}

Bytes write_symbol_counts(const SymbolCounts& counts) {
  Bytes out;
  size_t at = 0;
  const auto write = [&](unsigned value, unsigned n) {
    for (unsigned i = 0; i < n; ++i, ++at) {
      if (at % 8 == 0) out.push_back(0);
      out.back() = static_cast<uint8_t>(out.back() | (value >> i & 1) << (at % 8));
    }
  };
  write(counts.log - 5, 4);
  int remaining = 1 << counts.log;
  for (size_t symbol = 0; symbol < counts.symbols; ++symbol) {
    const int count = counts.counts[symbol];
    const auto value = static_cast<unsigned>(count + 1);
    const auto top = static_cast<unsigned>(remaining + 1);
    const unsigned width = high_bit(top) + 1;
    const unsigned low_mask = (1U << (width - 1)) - 1;
    const unsigned threshold = (1U << width) - 1 - top;
    if (value < threshold) write(value, width - 1);
    else write(value <= low_mask ? value : value + threshold, width);
    remaining -= count < 0 ? 1 : count;
  }
  return out;
}

const SymbolCounts& predefined_counts(SequenceField field) {
  static const std::array<SymbolCounts, kSequenceFields> kCounts = {
      make_predefined(SequenceField::literal_length), make_predefined(SequenceField::offset),
      make_predefined(SequenceField::match_length)};
  return kCounts[static_cast<size_t>(field)];
}

// Section 4.1.1: rare symbols get the last cells, the others are spread.
void SequenceTable::build(SequenceField field, const SymbolCounts& counts) {
  log_ = counts.log;
  const unsigned size = 1U << log_;
  std::array<uint8_t, size_t{1} << kMaxSequenceLog> symbols{};
  std::array<uint16_t, kMaxSequenceSymbols> next{};
  unsigned high = size;
  for (size_t symbol = 0; symbol < counts.symbols; ++symbol) {
    if (counts.counts[symbol] == -1) {
      symbols[--high] = static_cast<uint8_t>(symbol);
      next[symbol] = 1;
    }
  }
  const unsigned step = (size >> 1) + (size >> 3) + 3;
  unsigned at = 0;
  for (size_t symbol = 0; symbol < counts.symbols; ++symbol) {
    if (counts.counts[symbol] <= 0) continue;
    next[symbol] = static_cast<uint16_t>(counts.counts[symbol]);
    for (int i = 0; i < counts.counts[symbol]; ++i) {
      symbols[at] = static_cast<uint8_t>(symbol);
      do at = (at + step) & (size - 1);
      while (at >= high);
    }
  }
  for (unsigned i = 0; i < size; ++i) {
    const unsigned state = next[symbols[i]]++;
    const unsigned state_bits = log_ - high_bit(state);
    const Value value = value_of(field, symbols[i]);
    cells_[i] = {value.baseline, static_cast<uint16_t>((state << state_bits) - size),
                 static_cast<uint8_t>(state_bits), value.extra_bits};
  }
}

bool SequenceTable::build_rle(SequenceField field, uint8_t symbol) {
  if (symbol >= limits_of(field).symbols) return false;
  log_ = 0;
  const Value value = value_of(field, symbol);
  cells_[0] = {value.baseline, 0, 0, value.extra_bits};
  return true;
}

}  // namespace pagein::codec
