#include "codec/zstd_frames.h"

#include <zstd.h>
#include <zstd_errors.h>

#include <algorithm>
#include <new>
#include <string>

#include "base/endian.h"

namespace pagein::codec {
namespace {

constexpr uint32_t kFrameMagic = 0xFD2FB528;      // RFC 8878, section 3.1.1
constexpr uint32_t kSkippableMagic = 0x184D2A50;  // to 0x184D2A5F; section 3.1.2
constexpr uint32_t kSkippableMask = 0xFFFFFFF0;

}  // namespace

struct ZstdFrames::Context {
  explicit Context(int max_window_log) : zstd(ZSTD_createDCtx()) {
    if (zstd == nullptr) throw std::bad_alloc();
    ZSTD_DCtx_setParameter(zstd, ZSTD_d_windowLogMax, max_window_log);
  }
  ~Context() { ZSTD_freeDCtx(zstd); }
  ZSTD_DCtx* const zstd;
};

ZstdFrames::ZstdFrames(int max_window_log) : context_(std::make_unique<Context>(max_window_log)) {}
ZstdFrames::~ZstdFrames() = default;
ZstdFrames::ZstdFrames(ZstdFrames&&) noexcept = default;
ZstdFrames& ZstdFrames::operator=(ZstdFrames&&) noexcept = default;

void ZstdFrames::restart() {
  ZSTD_DCtx_reset(context_->zstd, ZSTD_reset_session_only);
  state_ = State::magic;
  magic_fill_ = 0;
}

Status ZstdFrames::on_magic() {
  const auto magic = load_le<uint32_t>(magic_.data());
  magic_fill_ = 0;
  if (magic == kFrameMagic) {
    magic_fed_ = 0;
    state_ = State::data_begins;
  } else if ((magic & kSkippableMask) == kSkippableMagic) {
    state_ = State::skip_size;
  } else {
    return Error(Code::corrupt_input, "zstd: no frame where one has to begin");
  }
  return {};
}

Result<ZstdFrames::Step> ZstdFrames::run(ByteView in, std::span<uint8_t> out) {
  size_t at = 0;
  for (;;) {
    switch (state_) {
      case State::magic:
      case State::skip_size: {
        const size_t n = std::min(magic_.size() - magic_fill_, in.size() - at);
        std::copy_n(in.begin() + static_cast<ptrdiff_t>(at), n,
                    magic_.begin() + static_cast<ptrdiff_t>(magic_fill_));
        magic_fill_ += n;
        at += n;
        if (magic_fill_ < magic_.size()) return Step{Event::need_input, at, 0};
        if (state_ == State::magic) {
          RETURN_IF_ERROR(on_magic());
        } else {
          skip_left_ = load_le<uint32_t>(magic_.data());
          magic_fill_ = 0;
          state_ = State::skipping;
        }
        break;
      }
      case State::skipping: {
        const auto n = static_cast<size_t>(std::min<uint64_t>(skip_left_, in.size() - at));
        skip_left_ -= n;
        at += n;
        if (skip_left_ > 0) return Step{Event::need_input, at, 0};
        state_ = State::magic;
        break;
      }
      case State::data_begins: state_ = State::data; return Step{Event::data_begins, at, 0};
      case State::data: return decode(in, out, at);
    }
  }
}

// In a frame. The magic number has been taken from the input already.
Result<ZstdFrames::Step> ZstdFrames::decode(ByteView in, std::span<uint8_t> out, size_t consumed) {
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  for (;;) {
    const bool magic = magic_fed_ < magic_.size();
    ZSTD_inBuffer input = magic ? ZSTD_inBuffer{magic_.data(), magic_.size(), magic_fed_}
                                : ZSTD_inBuffer{in.data(), in.size(), consumed};
    const size_t before = output.pos;
    const size_t result = ZSTD_decompressStream(context_->zstd, &output, &input);
    if (ZSTD_isError(result)) {
      const bool window = ZSTD_getErrorCode(result) == ZSTD_error_frameParameter_windowTooLarge;
      return Error(window ? Code::unsupported : Code::corrupt_input,
                   std::string("zstd: ") + ZSTD_getErrorName(result));
    }
    const size_t used = input.pos - (magic ? magic_fed_ : consumed);
    (magic ? magic_fed_ : consumed) = input.pos;
    if (result == 0) {
      state_ = State::magic;
      return Step{Event::frame_end, consumed, output.pos};
    }
    if (output.pos == output.size) return Step{Event::output_full, consumed, output.pos};
    if (!magic && consumed == in.size() && (used == 0 || output.pos == before)) {
      return Step{Event::need_input, consumed, output.pos};
    }
  }
}

}  // namespace pagein::codec
