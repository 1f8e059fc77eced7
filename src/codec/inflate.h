// A streaming DEFLATE decoder (RFC 1951) that knows where it is: it stops at
// block boundaries, reports bit positions, can say what its state inside a
// block is, and can start from either.
#pragma once

#include <array>
#include <cstdint>

#include "base/result.h"
#include "codec/bit_input.h"
#include "codec/huffman.h"
#include "codec/output_buffer.h"

namespace pagein::codec {

enum class BlockType : uint8_t { stored = 0, fixed = 1, dynamic = 2 };

// What must be known, besides the window, to go on inside a block.
struct BlockState {
  BlockType type = BlockType::stored;
  bool last = false;              // BFINAL
  uint16_t stored_remaining = 0;  // stored: bytes to come
  // dynamic: code lengths, 0..15, literals and lengths first.
  std::array<uint8_t, kLitlenSymbols> litlen_lengths{};
  std::array<uint8_t, kDistanceSymbols> distance_lengths{};
};

// Why another DEFLATE decoder: zlib decodes a third as fast, and neither of the
// fast ones (libdeflate, ISA-L) can tell where its blocks begin. Techniques
// that matter: a 64-bit bit buffer refilled by one unaligned load; lookup
// entries that hold everything about a symbol, looked up ahead of the refill;
// matches copied in words into a buffer with slack.
//
// The caller owns input and output and may move the output buffer's content
// between calls. Accepts what zlib accepts. Thread-compatible. Never blocks.
class Inflater {
 public:
  enum class Event {
    need_input,      // all input was taken; go on with more
    output_limit,    // out.next >= limit
    block_boundary,  // a block ended, the next bit is a block's header
    end,             // the last block ended
  };

  // Begins at a block's header.
  void start();
  // Begins inside a block. corrupt_input if the codes are unusable.
  Status start(const BlockState& state);

  // What output_limit means.
  enum class Tail {
    loose,  // some symbols beyond the limit, up to kOutputSlack bytes
    exact,  // right after the first symbol that reaches it (or a byte, if stored)
  };

  // Decodes until one of the events; `limit` <= out.limit_end. corrupt_input
  // for anything that is not valid DEFLATE.
  Result<Event> run(BitInput& in, OutputBuffer& out, const uint8_t* limit, Tail tail = Tail::loose);

  // Whether the position is inside a block's data, so that block_state() says
  // something.
  bool in_block() const { return state_ == State::symbols || state_ == State::stored; }
  const BlockState& block_state() const { return block_; }

 private:
  enum class State {
    block_header,
    stored_header,
    stored,
    code_counts,
    precode,
    code_lengths,
    symbols,
    end,
  };

  // Each reads a part of a block's header: true when through with it, false
  // when more input is needed.
  Result<bool> read_header(BitInput& in);
  Result<bool> read_block_header(BitInput& in);
  Result<bool> read_stored_header(BitInput& in);
  Result<bool> read_code_counts(BitInput& in);
  Result<bool> read_precode(BitInput& in);
  Result<bool> read_code_lengths(BitInput& in);
  Status begin_symbols();

  Event end_of_block();
  Event copy_stored(BitInput& in, OutputBuffer& out, const uint8_t* limit);
  Result<Event> decode_symbols(BitInput& in, OutputBuffer& out, const uint8_t* limit, Tail tail);
  Result<bool> decode_one(BitInput& in, OutputBuffer& out);

  const LitlenTable& litlen_table() const;
  const DistanceTable& distance_table() const;

  State state_ = State::block_header;
  BlockState block_;
  unsigned litlen_count_ = 0;
  unsigned distance_count_ = 0;
  unsigned precode_count_ = 0;
  unsigned read_ = 0;  // items read of what `state_` reads
  std::array<uint8_t, kPrecodeSymbols> precode_lengths_{};
  std::array<uint8_t, kLitlenSymbols + kDistanceSymbols> lengths_{};
  PrecodeTable precode_;
  LitlenTable litlen_;
  DistanceTable distance_;
};

}  // namespace pagein::codec
