#include "codec/member_decoder.h"

#include <algorithm>

#include "codec/crc32.h"

namespace pagein::codec {
namespace {

// RFC 1952, section 2.3.1. Bit 0 (FTEXT) is advice only.
constexpr uint8_t kHasHeaderCrc = 1U << 1;
constexpr uint8_t kHasExtra = 1U << 2;
constexpr uint8_t kHasName = 1U << 3;
constexpr uint8_t kHasComment = 1U << 4;
constexpr uint8_t kReservedFlags = 0xe0;
constexpr unsigned kFixedHeaderBytes = 10;

Error corrupt(const char* why) { return Error(Code::corrupt_input, std::string("gzip: ") + why); }

}  // namespace

void MemberDecoder::start_member() {
  state_ = State::fixed_header;
  flags_ = 0;
  header_bytes_ = 0;
  header_crc_ = 0;
}

void MemberDecoder::start_block() {
  state_ = State::data;
  inflater_.start();
}

Status MemberDecoder::start_mid_block(const BlockState& state) {
  state_ = State::data;
  return inflater_.start(state);
}

Result<MemberDecoder::Event> MemberDecoder::run(BitInput& in, OutputBuffer& out,
                                                const uint8_t* limit, Inflater::Tail tail) {
  for (;;) {
    switch (state_) {
      case State::data: return run_data(in, out, limit, tail);
      case State::trailer:
        // The CRC is taken first and only once: both need not fit in `in`.
        if (!in.fill(32)) return Event::need_input;
        stored_crc_ = in.take(32);
        state_ = State::trailer_length;
        break;
      case State::trailer_length:
        if (!in.fill(32)) return Event::need_input;
        stored_length_ = in.take(32);
        state_ = State::end;
        break;
      case State::end: return Event::end;
      default: {
        ASSIGN_OR_RETURN(const bool through, read_header(in));
        if (!through) return Event::need_input;
        if (state_ != State::data) break;
        inflater_.start();
        out.history = out.next;
        return Event::block_boundary;
      }
    }
  }
}

Result<MemberDecoder::Event> MemberDecoder::run_data(BitInput& in, OutputBuffer& out,
                                                     const uint8_t* limit, Inflater::Tail tail) {
  ASSIGN_OR_RETURN(const Inflater::Event event, inflater_.run(in, out, limit, tail));
  switch (event) {
    case Inflater::Event::need_input: return Event::need_input;
    case Inflater::Event::output_limit: return Event::output_limit;
    case Inflater::Event::block_boundary: return Event::block_boundary;
    case Inflater::Event::end: break;
  }
  in.align_to_byte();
  state_ = State::trailer;
  return Event::data_end;
}

// Reads the part of the header that state_ names and moves on to the next
// part that is there. False if more input is needed.
Result<bool> MemberDecoder::read_header(BitInput& in) {
  switch (state_) {
    case State::fixed_header: return read_fixed_header(in);
    case State::extra_length:
      if (!in.fill(16)) return false;
      extra_left_ = take_header_byte(in);
      extra_left_ |= static_cast<uint32_t>(take_header_byte(in)) << 8;
      state_ = State::extra;
      return true;
    case State::extra:
      for (; extra_left_ > 0; --extra_left_) {
        if (!in.fill(8)) return false;
        take_header_byte(in);
      }
      state_ = State::name;
      return true;
    case State::name:
      if (flags_ & kHasName && !skip_text(in)) return false;
      state_ = State::comment;
      return true;
    case State::comment:
      if (flags_ & kHasComment && !skip_text(in)) return false;
      state_ = State::header_crc;
      return true;
    default:  // header_crc
      if (flags_ & kHasHeaderCrc) {
        if (!in.fill(16)) return false;
        if (in.take(16) != (header_crc_ & 0xffff)) return corrupt("a header fails its CRC");
      }
      state_ = State::data;
      return true;
  }
}

Result<bool> MemberDecoder::read_fixed_header(BitInput& in) {
  for (; header_bytes_ < kFixedHeaderBytes; ++header_bytes_) {
    if (!in.fill(8)) return false;
    const uint8_t byte = take_header_byte(in);
    if (header_bytes_ == 0 && byte != 0x1f) return corrupt("a member lacks the magic number");
    if (header_bytes_ == 1 && byte != 0x8b) return corrupt("a member lacks the magic number");
    if (header_bytes_ == 2 && byte != 8) return corrupt("a member is not compressed by DEFLATE");
    if (header_bytes_ == 3) flags_ = byte;
    // Then the time (4 bytes), extra flags and the operating system.
  }
  if (flags_ & kReservedFlags) return corrupt("a header has flags that are not defined");
  state_ = flags_ & kHasExtra ? State::extra_length : State::name;
  return true;
}

// A zero-terminated text, of any length.
bool MemberDecoder::skip_text(BitInput& in) {
  for (;;) {
    if (!in.fill(8)) return false;
    if (take_header_byte(in) == 0) return true;
  }
}

uint8_t MemberDecoder::take_header_byte(BitInput& in) {
  const auto byte = static_cast<uint8_t>(in.take(8));
  header_crc_ = crc32(header_crc_, {&byte, 1});
  return byte;
}

}  // namespace pagein::codec
