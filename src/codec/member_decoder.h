// Decodes gzip members (RFC 1952): header, DEFLATE data, trailer. What the
// indexer and the span decoder share.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "codec/bit_input.h"
#include "codec/inflate.h"
#include "codec/output_buffer.h"

namespace pagein::codec {

// One member at a time; start again for the next one. Checks the header's
// magic, method, flags and CRC16 (where it has one); the trailer is read but
// left for the caller to compare. The caller owns input and output.
// Thread-compatible. Never blocks.
class MemberDecoder {
 public:
  enum class Event {
    need_input,
    output_limit,
    block_boundary,  // see Inflater; also before a member's first block
    data_end,        // the data ended; the trailer is next
    end,             // the trailer was read; input stands behind it
  };

  // At the first byte of a header. Matches cannot reach before `out.next`
  // from where the data begins.
  void start_member();
  // At a block's header.
  void start_block();
  // Inside a block. corrupt_input if its codes are unusable.
  Status start_mid_block(const BlockState& state);

  // As Inflater::run().
  Result<Event> run(BitInput& in, OutputBuffer& out, const uint8_t* limit, Inflater::Tail tail);

  const Inflater& inflater() const { return inflater_; }
  // After `end`.
  uint32_t stored_crc() const { return stored_crc_; }
  uint32_t stored_length() const { return stored_length_; }

 private:
  enum class State {
    fixed_header,
    extra_length,
    extra,
    name,
    comment,
    header_crc,
    data,
    trailer,
    trailer_length,
    end,
  };

  Result<bool> read_header(BitInput& in);
  Result<bool> read_fixed_header(BitInput& in);
  bool skip_text(BitInput& in);
  Result<Event> run_data(BitInput& in, OutputBuffer& out, const uint8_t* limit,
                         Inflater::Tail tail);
  uint8_t take_header_byte(BitInput& in);

  State state_ = State::fixed_header;
  uint8_t flags_ = 0;
  unsigned header_bytes_ = 0;  // of the fixed part, taken
  uint32_t extra_left_ = 0;
  uint32_t header_crc_ = 0;
  uint32_t stored_crc_ = 0;
  uint32_t stored_length_ = 0;
  Inflater inflater_;
};

}  // namespace pagein::codec
