// Lookup tables for DEFLATE's Huffman codes (RFC 1951, section 3.2).
#pragma once

#include <array>
#include <cstdint>
#include <span>

namespace pagein::codec {

// A table is looked up with the next kTableBits bits of input. What it holds
// tells in one load how many bits to drop and what they stand for:
//
//   bits 0-5    how many bits to drop, extra bits included
//   bits 8-11   bits of the codeword alone: what is dropped beyond them are
//               the extra bits
//   bit 13      end of block (with kSpecial)
//   bit 14      the codeword is longer: bits 16-30 are the index of a second
//               table, bits 8-11 how many bits it is looked up with, after the
//               first drop (with kSpecial)
//   bit 15      kSpecial: neither literal nor length nor distance; alone: there
//               is no such codeword
//   bits 16-30  the literal, or the base of the length or distance
//   bit 31      a literal
//
// Tried and found slower: two or three literals in one entry (putting them
// there costs more than it saves), and tables of 10 or 12 bits.
namespace entry {
inline constexpr uint32_t kDropMask = 63;
inline constexpr uint32_t kEndOfBlock = 1U << 13;
inline constexpr uint32_t kLonger = 1U << 14;
inline constexpr uint32_t kSpecial = 1U << 15;
inline constexpr uint32_t kLiteral = 1U << 31;

constexpr unsigned drop(uint32_t e) { return e & kDropMask; }
constexpr unsigned code_bits(uint32_t e) { return (e >> 8) & 15; }
constexpr uint32_t base(uint32_t e) { return e >> 16; }
constexpr uint8_t literal(uint32_t e) { return static_cast<uint8_t>(e >> 16); }
}  // namespace entry

inline constexpr unsigned kMaxCodeBits = 15;
inline constexpr unsigned kLitlenSymbols = 288;   // 286 and 287 never occur in data
inline constexpr unsigned kDistanceSymbols = 32;  // 30 and 31 never occur in data
inline constexpr unsigned kPrecodeSymbols = 19;

inline constexpr unsigned kLitlenBits = 11;
inline constexpr unsigned kDistanceBits = 9;
inline constexpr unsigned kPrecodeBits = 7;

// First table plus the second tables that a complete code can need at most;
// the builder checks.
inline constexpr size_t kLitlenEntries = (1U << kLitlenBits) + 512;
inline constexpr size_t kDistanceEntries = (1U << kDistanceBits) + 256;

using LitlenTable = std::array<uint32_t, kLitlenEntries>;
using DistanceTable = std::array<uint32_t, kDistanceEntries>;
using PrecodeTable = std::array<uint32_t, 1U << kPrecodeBits>;

// From code lengths (0: unused; at most 15; the precode's at most 7). False if
// they are over-subscribed or incomplete. As zlib has it, a literal/length or
// distance code may be incomplete if it is one code of one bit, and a distance
// code may be empty. The precode's symbols stand in `base`.
bool build_litlen_table(std::span<const uint8_t> lengths, LitlenTable& table);
bool build_distance_table(std::span<const uint8_t> lengths, DistanceTable& table);
bool build_precode_table(std::span<const uint8_t> lengths, PrecodeTable& table);

}  // namespace pagein::codec
