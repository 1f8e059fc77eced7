#include "codec/inflate.h"

#include <algorithm>
#include <cstring>

#include "codec/inflate_loop.h"

namespace pagein::codec {
namespace {

Error corrupt(const char* why) {
  return Error(Code::corrupt_input, std::string("deflate: ") + why);
}

using Loop = detail::LoopExit (*)(BitInput&, OutputBuffer&, const uint8_t*, const LitlenTable&,
                                  const DistanceTable&);

template <bool kTrack>
detail::LoopExit loop_generic(BitInput& in, OutputBuffer& out, const uint8_t* limit,
                              const LitlenTable& litlen, const DistanceTable& distance) {
  return detail::inflate_loop<kTrack>(in, out, limit, litlen, distance);
}

#if defined(__x86_64__)
// Shifts by a variable amount and bit masks take one instruction each.
template <bool kTrack>
__attribute__((target("bmi,bmi2"))) detail::LoopExit loop_bmi2(BitInput& in, OutputBuffer& out,
                                                               const uint8_t* limit,
                                                               const LitlenTable& litlen,
                                                               const DistanceTable& distance) {
  return detail::inflate_loop<kTrack>(in, out, limit, litlen, distance);
}
#endif

template <bool kTrack>
Loop choose_loop() {
#if defined(__x86_64__)
  if (__builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2")) return loop_bmi2<kTrack>;
#endif
  return loop_generic<kTrack>;
}

const Loop kPlainLoop = choose_loop<false>();
const Loop kTrackingLoop = choose_loop<true>();

// RFC 1951, section 3.2.6.
struct FixedCode {
  LitlenTable litlen;
  DistanceTable distance;

  FixedCode() {
    std::array<uint8_t, kLitlenSymbols> litlen_lengths;
    std::array<uint8_t, kDistanceSymbols> distance_lengths;
    for (unsigned s = 0; s < kLitlenSymbols; ++s) {
      litlen_lengths[s] = s < 144 ? 8 : s < 256 ? 9 : s < 280 ? 7 : 8;
    }
    distance_lengths.fill(5);
    build_litlen_table(litlen_lengths, litlen);
    build_distance_table(distance_lengths, distance);
  }
};

const FixedCode& fixed_code() {
  static const FixedCode code;
  return code;
}

// A word loop would overwrite nothing here: this is for single symbols.
void copy_bytes(uint8_t* to, size_t distance, size_t length) {
  for (const uint8_t* from = to - distance; length > 0; --length) *to++ = *from++;
}

}  // namespace

const LitlenTable& Inflater::litlen_table() const {
  return block_.type == BlockType::fixed ? fixed_code().litlen : litlen_;
}

const DistanceTable& Inflater::distance_table() const {
  return block_.type == BlockType::fixed ? fixed_code().distance : distance_;
}

void Inflater::start() { state_ = State::block_header; }

Status Inflater::start(const BlockState& state) {
  block_ = state;
  if (state.type == BlockType::stored) {
    state_ = State::stored;
    return {};
  }
  return begin_symbols();
}

Result<Inflater::Event> Inflater::run(BitInput& in, OutputBuffer& out, const uint8_t* limit,
                                      Tail tail) {
  for (;;) {
    if (out.next >= limit) return Event::output_limit;
    switch (state_) {
      case State::end: return Event::end;
      case State::stored: return copy_stored(in, out, limit);
      case State::symbols: return decode_symbols(in, out, limit, tail);
      default: {
        ASSIGN_OR_RETURN(const bool through, read_header(in));
        if (!through) return Event::need_input;
        // An empty stored block, as flushes leave them, is over already.
        if (state_ == State::stored && block_.stored_remaining == 0) return end_of_block();
      }
    }
  }
}

Result<bool> Inflater::read_header(BitInput& in) {
  switch (state_) {
    case State::block_header: return read_block_header(in);
    case State::stored_header: return read_stored_header(in);
    case State::code_counts: return read_code_counts(in);
    case State::precode: return read_precode(in);
    default: return read_code_lengths(in);
  }
}

Result<bool> Inflater::read_block_header(BitInput& in) {
  if (!in.fill(3)) return false;
  block_.last = in.take(1) != 0;
  read_ = 0;
  switch (in.take(2)) {
    case 0:
      block_.type = BlockType::stored;
      in.align_to_byte();
      state_ = State::stored_header;
      return true;
    case 1:
      block_.type = BlockType::fixed;
      RETURN_IF_ERROR(begin_symbols());
      return true;
    case 2:
      block_.type = BlockType::dynamic;
      state_ = State::code_counts;
      return true;
    default: return corrupt("a block of the reserved type");
  }
}

Result<bool> Inflater::read_stored_header(BitInput& in) {
  if (!in.fill(32)) return false;
  const uint32_t length = in.take(16);
  if ((length ^ in.take(16)) != 0xffff) return corrupt("a stored block's length fails its check");
  block_.stored_remaining = static_cast<uint16_t>(length);
  state_ = State::stored;
  return true;
}

Result<bool> Inflater::read_code_counts(BitInput& in) {
  if (!in.fill(14)) return false;
  litlen_count_ = in.take(5) + 257;
  distance_count_ = in.take(5) + 1;
  precode_count_ = in.take(4) + 4;
  if (litlen_count_ > 286 || distance_count_ > 30) return corrupt("a block names too many symbols");
  precode_lengths_.fill(0);
  state_ = State::precode;
  return true;
}

Result<bool> Inflater::read_precode(BitInput& in) {
  // RFC 1951, section 3.2.7.
  static constexpr uint8_t kOrder[kPrecodeSymbols] = {16, 17, 18, 0, 8,  7, 9,  6, 10, 5,
                                                      11, 4,  12, 3, 13, 2, 14, 1, 15};
  for (; read_ < precode_count_; ++read_) {
    if (!in.fill(3)) return false;
    precode_lengths_[kOrder[read_]] = static_cast<uint8_t>(in.take(3));
  }
  if (!build_precode_table(precode_lengths_, precode_)) {
    return corrupt("a block's code for code lengths is not a complete code");
  }
  read_ = 0;
  state_ = State::code_lengths;
  return true;
}

Result<bool> Inflater::read_code_lengths(BitInput& in) {
  const unsigned total = litlen_count_ + distance_count_;
  while (read_ < total) {
    in.fill(kPrecodeBits + 7);  // may be short at the end of input
    const uint32_t e = precode_[in.peek(kPrecodeBits)];
    const uint32_t symbol = entry::base(e);
    const unsigned extra = symbol < 16 ? 0 : symbol == 16 ? 2 : symbol == 17 ? 3 : 7;
    if (in.count < entry::drop(e) + extra) return false;
    in.drop(entry::drop(e));
    if (symbol < 16) {
      lengths_[read_++] = static_cast<uint8_t>(symbol);
      continue;
    }
    if (symbol == 16 && read_ == 0)
      return corrupt("a block repeats a code length before the first");
    const uint8_t value = symbol == 16 ? lengths_[read_ - 1] : 0;
    const unsigned times = in.take(extra) + (symbol == 18 ? 11 : 3);
    if (times > total - read_) return corrupt("a block repeats a code length beyond the last");
    std::fill_n(lengths_.begin() + read_, times, value);
    read_ += times;
  }
  block_.litlen_lengths.fill(0);
  block_.distance_lengths.fill(0);
  std::copy_n(lengths_.begin(), litlen_count_, block_.litlen_lengths.begin());
  std::copy_n(lengths_.begin() + litlen_count_, distance_count_, block_.distance_lengths.begin());
  RETURN_IF_ERROR(begin_symbols());
  return true;
}

// From the type and, where dynamic, the code lengths in block_.
Status Inflater::begin_symbols() {
  if (block_.type == BlockType::dynamic) {
    if (block_.litlen_lengths[256] == 0) return corrupt("a block has no code for its end");
    if (!build_litlen_table(block_.litlen_lengths, litlen_)) {
      return corrupt("a block's code for literals and lengths is not a complete code");
    }
    if (!build_distance_table(block_.distance_lengths, distance_)) {
      return corrupt("a block's code for distances is not a complete code");
    }
  }
  state_ = State::symbols;
  return {};
}

Inflater::Event Inflater::end_of_block() {
  state_ = block_.last ? State::end : State::block_header;
  return block_.last ? Event::end : Event::block_boundary;
}

Inflater::Event Inflater::copy_stored(BitInput& in, OutputBuffer& out, const uint8_t* limit) {
  uint16_t& left = block_.stored_remaining;
  while (left > 0 && in.count >= 8 && out.next < limit) {
    *out.next++ = static_cast<uint8_t>(in.take(8));
    --left;
  }
  const size_t n = std::min(
      {size_t{left}, static_cast<size_t>(in.end - in.next), static_cast<size_t>(limit - out.next)});
  if (n > 0) {
    std::memcpy(out.next, in.next, n);
    out.next += n;
    in.next += n;
    left = static_cast<uint16_t>(left - n);
  }
  if (left == 0) return end_of_block();
  return out.next >= limit ? Event::output_limit : Event::need_input;
}

Result<Inflater::Event> Inflater::decode_symbols(BitInput& in, OutputBuffer& out,
                                                 const uint8_t* limit, Tail tail) {
  // The fast loop may overshoot its limit by a slack's length.
  const uint8_t* fast_limit = limit;
  if (tail == Tail::exact) {
    fast_limit =
        static_cast<size_t>(limit - out.next) > kOutputSlack ? limit - kOutputSlack : out.next;
  }
  const Loop loop = out.references.active() ? kTrackingLoop : kPlainLoop;
  while (out.next < limit) {
    if (out.next < fast_limit && in.end - in.next >= detail::kFastInput) {
      switch (loop(in, out, fast_limit, litlen_table(), distance_table())) {
        case detail::LoopExit::limits: continue;
        case detail::LoopExit::end_of_block: return end_of_block();
        case detail::LoopExit::bad_symbol: return corrupt("a codeword that stands for nothing");
        case detail::LoopExit::bad_distance:
          return corrupt("a match reaches back before the data's beginning");
      }
    }
    ASSIGN_OR_RETURN(const bool decoded, decode_one(in, out));
    if (!decoded) return Event::need_input;
    if (state_ != State::symbols) return block_.last ? Event::end : Event::block_boundary;
  }
  return Event::output_limit;
}

// Decodes one symbol if all its bits are there, else takes nothing and returns
// false. Missing bits read as zeros, and then what is looked up says that it
// is longer than what is there: no codeword is the beginning of another one.
Result<bool> Inflater::decode_one(BitInput& in, OutputBuffer& out) {
  in.fill(48);
  uint64_t bits = in.bits;
  unsigned used = 0;
  // Looks up one codeword and returns its entry; what it drops is in `used`.
  uint64_t before = 0;
  const auto look_up = [&](const auto& table, unsigned table_bits) {
    uint32_t e = table[detail::low_bits(bits, table_bits)];
    before = bits;
    if (e & entry::kLonger) {
      bits >>= entry::drop(e);
      used += entry::drop(e);
      before = bits;
      e = table[entry::base(e) + detail::low_bits(bits, entry::code_bits(e))];
    }
    return e;
  };

  uint32_t e = look_up(litlen_table(), kLitlenBits);
  used += entry::drop(e);
  bits >>= entry::drop(e);
  if (in.count < used) return false;
  if (e & entry::kLiteral) {
    in.drop(used);
    *out.next++ = entry::literal(e);
    return true;
  }
  if (e & entry::kSpecial) {
    if (!(e & entry::kEndOfBlock)) return corrupt("a codeword that stands for nothing");
    in.drop(used);
    end_of_block();
    return true;
  }
  const size_t length =
      entry::base(e) + (detail::low_bits(before, entry::drop(e)) >> entry::code_bits(e));
  e = look_up(distance_table(), kDistanceBits);
  used += entry::drop(e);
  if (in.count < used) return false;
  if (e & entry::kSpecial) return corrupt("a codeword that stands for nothing");
  const size_t distance =
      entry::base(e) + (detail::low_bits(before, entry::drop(e)) >> entry::code_bits(e));
  if (distance > static_cast<size_t>(out.next - out.history)) {
    return corrupt("a match reaches back before the data's beginning");
  }
  in.drop(used);
  if (out.references.active()) out.references.touch(out.next - distance, length);
  copy_bytes(out.next, distance, length);
  out.next += length;
  return true;
}

}  // namespace pagein::codec
