#include "codec/huffman.h"

#include <algorithm>
#include <cstring>

namespace pagein::codec {
namespace {

// What each symbol's entry holds before its codeword's length is added: extra
// bits in `drop`, bases from RFC 1951, section 3.2.5.
constexpr auto kLitlenTemplates = [] {
  std::array<uint32_t, kLitlenSymbols> t{};
  for (uint32_t s = 0; s < 256; ++s) t[s] = entry::kLiteral | s << 16;
  t[256] = entry::kSpecial | entry::kEndOfBlock;
  uint32_t base = 3;
  for (uint32_t s = 257; s < 285; ++s) {
    const uint32_t extra = s < 265 ? 0 : (s - 261) / 4;
    t[s] = base << 16 | extra;
    base += 1U << extra;
  }
  t[285] = 258U << 16;
  t[286] = t[287] = entry::kSpecial;
  return t;
}();

constexpr auto kDistanceTemplates = [] {
  std::array<uint32_t, kDistanceSymbols> t{};
  uint32_t base = 1;
  for (uint32_t s = 0; s < 30; ++s) {
    const uint32_t extra = s < 4 ? 0 : (s - 2) / 2;
    t[s] = base << 16 | extra;
    base += 1U << extra;
  }
  t[30] = t[31] = entry::kSpecial;
  return t;
}();

constexpr auto kPrecodeTemplates = [] {
  std::array<uint32_t, kPrecodeSymbols> t{};
  for (uint32_t s = 0; s < kPrecodeSymbols; ++s) t[s] = s << 16;
  return t;
}();

constexpr uint32_t kInvalid = entry::kSpecial | 1;

constexpr uint32_t make_entry(uint32_t symbol_template, unsigned bits) {
  return symbol_template + (bits | bits << 8);
}

// The codeword after `code` of the same length, both with their first bit
// lowest, as they come from the input.
uint32_t next_code(uint32_t code, unsigned length) {
  uint32_t bit = 1U << (length - 1);
  while (code & bit) {
    code ^= bit;
    bit >>= 1;
  }
  return code | bit;
}

struct Code {
  std::span<const uint32_t> templates;
  std::array<uint16_t, kMaxCodeBits + 1> count{};  // codewords per length
  std::array<uint16_t, kLitlenSymbols> symbols{};  // used ones, in codeword order
  unsigned longest = 0;
};

enum class Completeness { full, empty, single_bit, bad };

Completeness sort_code(std::span<const uint8_t> lengths, Code& code) {
  for (const uint8_t length : lengths) ++code.count[length];
  code.count[0] = 0;
  std::array<uint16_t, kMaxCodeBits + 2> start{};
  int32_t left = 1;
  for (unsigned length = 1; length <= kMaxCodeBits; ++length) {
    left = left * 2 - code.count[length];
    if (left < 0) return Completeness::bad;
    if (code.count[length] != 0) code.longest = length;
    start[length + 1] = start[length] + code.count[length];
  }
  for (unsigned s = 0; s < lengths.size(); ++s) {
    if (lengths[s] != 0) code.symbols[start[lengths[s]]++] = static_cast<uint16_t>(s);
  }
  if (left == 0) return Completeness::full;
  if (code.longest == 0) return Completeness::empty;
  return code.longest == 1 ? Completeness::single_bit : Completeness::bad;
}

// Second tables for the codewords longer than `bits`. `code` is the first of
// them and `symbol` its place in the order.
bool fill_second_tables(Code& c, unsigned bits, uint32_t code, unsigned symbol,
                        std::span<uint32_t> table) {
  const uint32_t mask = (1U << bits) - 1;
  size_t free = size_t{1} << bits;
  size_t start = 0;
  unsigned second_bits = 0;
  uint32_t prefix = ~0U;
  for (unsigned length = bits + 1; length <= c.longest; ++length) {
    for (; c.count[length] != 0; --c.count[length]) {
      if ((code & mask) != prefix) {
        prefix = code & mask;
        second_bits = length - bits;
        int32_t left = (1 << second_bits) - c.count[length];
        while (left > 0 && bits + second_bits < c.longest) {
          ++second_bits;
          left = left * 2 - c.count[bits + second_bits];
        }
        start = free;
        free += size_t{1} << second_bits;
        if (free > table.size()) return false;
        table[prefix] = entry::kSpecial | entry::kLonger | static_cast<uint32_t>(start) << 16 |
                        second_bits << 8 | bits;
      }
      const uint32_t e = make_entry(c.templates[c.symbols[symbol++]], length - bits);
      const size_t step = size_t{1} << (length - bits);
      for (size_t i = code >> bits; i < (size_t{1} << second_bits); i += step) table[start + i] = e;
      code = next_code(code, length);
    }
  }
  return true;
}

// Grows the table one bit of lookup at a time: what is there is copied, and
// the codewords of the new length are put over the places still open.
bool fill_table(Code& c, unsigned bits, std::span<uint32_t> table) {
  uint32_t code = 0;
  unsigned symbol = 0;
  table[0] = kInvalid;
  for (unsigned length = 1; length <= bits; ++length) {
    const size_t half = size_t{1} << (length - 1);
    std::memcpy(table.data() + half, table.data(), half * sizeof(uint32_t));
    for (unsigned i = 0; i < c.count[length]; ++i) {
      table[code] = make_entry(c.templates[c.symbols[symbol++]], length);
      code = next_code(code, length);
    }
  }
  return c.longest <= bits || fill_second_tables(c, bits, code, symbol, table);
}

bool build(std::span<const uint8_t> lengths, std::span<const uint32_t> templates, unsigned bits,
           std::span<uint32_t> table, Completeness weakest) {
  Code code{.templates = templates};
  const Completeness completeness = sort_code(lengths, code);
  switch (completeness) {
    case Completeness::bad: return false;
    case Completeness::empty:
      if (weakest != Completeness::empty) return false;
      break;
    case Completeness::single_bit:
      if (weakest == Completeness::full) return false;
      break;
    case Completeness::full: break;
  }
  return fill_table(code, bits, table);
}

}  // namespace

bool build_litlen_table(std::span<const uint8_t> lengths, LitlenTable& table) {
  return build(lengths, kLitlenTemplates, kLitlenBits, table, Completeness::single_bit);
}

bool build_distance_table(std::span<const uint8_t> lengths, DistanceTable& table) {
  return build(lengths, kDistanceTemplates, kDistanceBits, table, Completeness::empty);
}

bool build_precode_table(std::span<const uint8_t> lengths, PrecodeTable& table) {
  return build(lengths, kPrecodeTemplates, kPrecodeBits, table, Completeness::full);
}

}  // namespace pagein::codec
