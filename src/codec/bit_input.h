// The compressed side of a decoder: pieces of input seen as one row of bits.
#pragma once

#include <cstdint>

#include "base/file.h"

namespace pagein::codec {

// Bits come least significant first, as DEFLATE packs them (RFC 1951, section
// 3.1.1). Between pieces up to 63 bits wait in `bits`, so a reader takes an
// item only when it is there as a whole and otherwise asks for more input.
// An open struct: the inner loop keeps its fields in registers.
// Thread-compatible.
//
// Invariants: bits above `count` are zero (outside the inner loop);
// count <= 63.
struct BitInput {
  const uint8_t* next = nullptr;
  const uint8_t* end = nullptr;
  uint64_t bits = 0;
  unsigned count = 0;
  uint64_t end_offset = 0;  // position in the blob of `end`, bytes

  // Forgets everything; the next byte fed is byte `offset` of the blob.
  void restart(uint64_t offset) { *this = BitInput{.end_offset = offset}; }

  // The piece before must have been used up (next == end).
  void set_piece(ByteView piece) {
    next = piece.data();
    end = next + piece.size();
    end_offset += piece.size();
  }

  // Position in the blob of the next bit to be taken.
  uint64_t bit_position() const {
    return (end_offset - static_cast<uint64_t>(end - next)) * 8 - count;
  }

  // Whether `wanted` bits (at most 48) can be had.
  bool fill(unsigned wanted) {
    while (count < wanted) {
      if (next == end) return false;
      bits |= static_cast<uint64_t>(*next++) << count;
      count += 8;
    }
    return true;
  }
  void drop(unsigned n) {
    bits >>= n;
    count -= n;
  }
  uint32_t peek(unsigned n) const { return static_cast<uint32_t>(bits & ((1ULL << n) - 1)); }
  uint32_t take(unsigned n) {
    const uint32_t value = peek(n);
    drop(n);
    return value;
  }
  void align_to_byte() { drop(count % 8); }
};

}  // namespace pagein::codec
