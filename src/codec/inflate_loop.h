// The inner loop of the DEFLATE decoder: symbols of one block, as long as
// there is plenty of input and of room. Private to inflate.cpp, which compiles
// it for several instruction sets.
#pragma once

#include <cstdint>
#include <cstring>

#include "codec/bit_input.h"
#include "codec/huffman.h"
#include "codec/output_buffer.h"

namespace pagein::codec::detail {

// The loop loads 8 bytes once at its beginning and twice a turn, each time at
// most 7 bytes further on.
inline constexpr ptrdiff_t kFastInput = 24;

enum class LoopExit { limits, end_of_block, bad_symbol, bad_distance };

#define PAGEIN_INLINE inline __attribute__((always_inline))

PAGEIN_INLINE uint64_t load64(const uint8_t* p) {
  uint64_t v;
  std::memcpy(&v, p, sizeof(v));
  static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "bits are loaded in words");
  return v;
}

PAGEIN_INLINE void copy8(uint8_t* to, const uint8_t* from) {
  uint64_t v;
  std::memcpy(&v, from, sizeof(v));
  std::memcpy(to, &v, sizeof(v));
}

PAGEIN_INLINE void copy16(uint8_t* to, const uint8_t* from) {
  typedef uint64_t Words __attribute__((vector_size(16)));
  Words v;
  std::memcpy(&v, from, sizeof(v));
  std::memcpy(to, &v, sizeof(v));
}

PAGEIN_INLINE uint64_t low_bits(uint64_t value, unsigned n) { return value & ((1ULL << n) - 1); }

// Copies a match in whole words: writes up to 47 bytes more than `length`.
PAGEIN_INLINE void copy_match(uint8_t* to, size_t distance, size_t length) {
  const uint8_t* from = to - distance;
  uint8_t* const end = to + length;
  if (__builtin_expect(distance >= 16, 1)) {
    copy16(to, from);
    copy16(to + 16, from + 16);
    copy16(to + 32, from + 32);
    if (__builtin_expect(length <= 48, 1)) return;
    to += 48;
    from += 48;
    do {
      copy16(to, from);
      copy16(to + 16, from + 16);
      to += 32;
      from += 32;
    } while (to < end);
    return;
  }
  if (distance == 1) {
    const uint64_t v = *from * 0x0101010101010101ULL;
    do {
      std::memcpy(to, &v, 8);
      std::memcpy(to + 8, &v, 8);
      to += 16;
    } while (to < end);
    return;
  }
  // The pattern of `distance` bytes is doubled until words can be copied.
  while (distance < 8) {
    copy8(to, from);
    to += distance;
    distance *= 2;
  }
  while (to < end) {
    copy8(to, from);
    to += 8;
    from += 8;
  }
}

// Decodes until input or room run low, the block ends, or a symbol is bad.
// Requires in.end - in.next >= kFastInput and out.next < limit; leaves `in`
// and `out` right behind the last symbol decoded.
template <bool kTrack>
PAGEIN_INLINE LoopExit inflate_loop(BitInput& input, OutputBuffer& output, const uint8_t* limit,
                                    const LitlenTable& litlen_table,
                                    const DistanceTable& distance_table) {
  constexpr uint64_t kLitlenMask = (1U << kLitlenBits) - 1;
  constexpr uint64_t kDistanceMask = (1U << kDistanceBits) - 1;
  const uint32_t* const litlens = litlen_table.data();
  const uint32_t* const distances = distance_table.data();
  const uint8_t* in = input.next;
  const uint8_t* const in_last = input.end - kFastInput;
  uint64_t bits = input.bits;
  // Above `count`, `bits` may hold what the next refill loads again.
  unsigned count = input.count;
  uint8_t* out = output.next;
  const uint8_t* const history = output.history;
  LoopExit exit = LoopExit::limits;

  // Only the low 6 bits of `count` count: whole entries are subtracted from it.
  const auto refill = [&]() __attribute__((always_inline)) {
    bits |= load64(in) << (count & 63);
    in += 7 - ((count >> 3) & 7);
    count |= 56;
  };
  const auto drop = [&](uint32_t e) __attribute__((always_inline)) {
    bits >>= (e & entry::kDropMask);
    count -= e;
  };

  refill();
  uint32_t e = litlens[bits & kLitlenMask];
  do {
    // `e` is what comes next, not dropped yet; there are at least 56 bits.
    // Each entry is looked up before a refill rather than after it, which
    // keeps loading input out of the chain of lookups. Three literals take at
    // most 33 bits, and a lookup 11.
    if (e & entry::kLiteral) {
      drop(e);
      *out++ = entry::literal(e);
      e = litlens[bits & kLitlenMask];
      if (e & entry::kLiteral) {
        drop(e);
        *out++ = entry::literal(e);
        e = litlens[bits & kLitlenMask];
        if (e & entry::kLiteral) {
          drop(e);
          *out++ = entry::literal(e);
          e = litlens[bits & kLitlenMask];
          refill();
          continue;
        }
      }
    }
    uint64_t before = bits;
    drop(e);
    if (__builtin_expect((e & entry::kSpecial) != 0, 0)) {
      if (e & entry::kLonger) {
        e = litlens[entry::base(e) + low_bits(bits, entry::code_bits(e))];
        before = bits;
        drop(e);
      }
      if (e & entry::kLiteral) {
        *out++ = entry::literal(e);
        e = litlens[bits & kLitlenMask];
        refill();
        continue;
      }
      if (e & entry::kSpecial) {
        exit = e & entry::kEndOfBlock ? LoopExit::end_of_block : LoopExit::bad_symbol;
        break;
      }
    }
    const size_t length =
        entry::base(e) + (low_bits(before, entry::drop(e)) >> entry::code_bits(e));
    e = distances[bits & kDistanceMask];
    refill();
    before = bits;
    drop(e);
    if (__builtin_expect((e & entry::kSpecial) != 0, 0)) {
      if (e & entry::kLonger) {
        e = distances[entry::base(e) + low_bits(bits, entry::code_bits(e))];
        before = bits;
        drop(e);
      }
      if (e & entry::kSpecial) {
        exit = LoopExit::bad_symbol;
        break;
      }
    }
    const size_t distance =
        entry::base(e) + (low_bits(before, entry::drop(e)) >> entry::code_bits(e));
    if (__builtin_expect(distance > static_cast<size_t>(out - history), 0)) {
      exit = LoopExit::bad_distance;
      break;
    }
    e = litlens[bits & kLitlenMask];
    refill();
    if constexpr (kTrack) output.references.touch(out - distance, length);
    copy_match(out, distance, length);
    out += length;
  } while (in <= in_last && out < limit);

  input.next = in;
  input.count = count & 63;
  input.bits = low_bits(bits, input.count);
  output.next = out;
  return exit;
}

}  // namespace pagein::codec::detail
