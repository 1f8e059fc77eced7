#include "convert/tar_stream.h"

#define ZLIB_CONST
#include <zlib.h>
#include <zstd.h>

#include <algorithm>

#include "base/file.h"

namespace pagein::convert {
namespace {

class PlainTarStream : public ByteStream {
 public:
  explicit PlainTarStream(std::unique_ptr<ByteStream> blob)
      : blob_(std::move(blob)), input_(256 << 10) {}
  ~PlainTarStream() override {
    if (state_ == State::inflating) inflateEnd(&zlib_);
    ZSTD_freeDCtx(zstd_);
  }

  Result<size_t> read(std::span<uint8_t> out) override {
    for (;;) {
      if (available_ == 0 && !ended_) RETURN_IF_ERROR(refill());
      if (state_ == State::start) RETURN_IF_ERROR(begin());
      switch (state_) {
        case State::start: break;
        case State::zstd: {
          ASSIGN_OR_RETURN(const size_t n, unzstd_some(out));
          if (n > 0 || zstd_ended_) return n;
          break;
        }
        case State::plain: {
          const size_t n = std::min(out.size(), available_);
          std::copy_n(input_.begin() + static_cast<ptrdiff_t>(at_), n, out.begin());
          at_ += n;
          available_ -= n;
          return n;
        }
        case State::inflating: {
          ASSIGN_OR_RETURN(const size_t n, inflate_some(out));
          if (n > 0) return n;
          break;
        }
        case State::between:
          while (available_ > 0 && input_[at_] == 0) {
            ++at_;
            --available_;
          }
          if (available_ == 0) {
            if (ended_) return size_t{0};
            break;
          }
          RETURN_IF_ERROR(begin_member());
          break;
      }
    }
  }

 private:
  enum class State { start, plain, inflating, between, zstd };

  Status refill() {
    at_ = 0;
    ASSIGN_OR_RETURN(available_, blob_->read(input_));
    ended_ = available_ == 0;
    return {};
  }

  Status begin() {
    // Short reads are possible, a format's magic number in pieces is not.
    while (available_ < 4 && !ended_) {
      ASSIGN_OR_RETURN(const size_t n, blob_->read(std::span(input_).subspan(available_)));
      ended_ = n == 0;
      available_ += n;
    }
    if (available_ >= 2 && input_[0] == 0x1f && input_[1] == 0x8b) return begin_member();
    state_ = State::plain;
    if (available_ < 4) return {};
    const bool frame =
        input_[0] == 0x28 && input_[1] == 0xb5 && input_[2] == 0x2f && input_[3] == 0xfd;
    const bool skippable =
        input_[0] >> 4 == 5 && input_[1] == 0x2a && input_[2] == 0x4d && input_[3] == 0x18;
    if (!frame && !skippable) return {};
    zstd_ = ZSTD_createDCtx();
    state_ = State::zstd;
    return {};
  }

  // 0: more input is needed, or the end where zstd_ended_ is set.
  Result<size_t> unzstd_some(std::span<uint8_t> out) {
    ZSTD_inBuffer in{input_.data() + at_, available_, 0};
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    // Without input it may still have output.
    const size_t result = ZSTD_decompressStream(zstd_, &to, &in);
    if (ZSTD_isError(result)) return Error(Code::corrupt_input, "libzstd cannot decode the layer");
    if (in.pos > 0 || to.pos > 0) in_frame_ = result != 0;
    at_ += in.pos;
    available_ -= in.pos;
    if (to.pos == 0 && available_ == 0 && ended_) {
      if (in_frame_) return Error(Code::corrupt_input, "the zstd stream ends early");
      zstd_ended_ = true;
    }
    return to.pos;
  }

  Status begin_member() {
    zlib_ = {};
    if (inflateInit2(&zlib_, 15 + 16) != Z_OK) return Error(Code::internal, "zlib cannot start");
    state_ = State::inflating;
    return {};
  }

  Result<size_t> inflate_some(std::span<uint8_t> out) {
    if (available_ == 0 && ended_) return Error(Code::corrupt_input, "the gzip stream ends early");
    zlib_.next_in = input_.data() + at_;
    zlib_.avail_in = static_cast<uInt>(available_);
    zlib_.next_out = out.data();
    zlib_.avail_out = static_cast<uInt>(std::min<size_t>(out.size(), 1 << 30));
    const uInt room = zlib_.avail_out;
    const int result = inflate(&zlib_, Z_NO_FLUSH);
    at_ += available_ - zlib_.avail_in;
    available_ = zlib_.avail_in;
    if (result == Z_STREAM_END) {
      inflateEnd(&zlib_);
      state_ = State::between;
    } else if (result != Z_OK && result != Z_BUF_ERROR) {
      return Error(Code::corrupt_input, "zlib cannot decode the layer");
    }
    return static_cast<size_t>(room - zlib_.avail_out);
  }

  std::unique_ptr<ByteStream> blob_;
  Bytes input_;
  size_t at_ = 0;
  size_t available_ = 0;
  bool ended_ = false;
  State state_ = State::start;
  z_stream zlib_{};
  ZSTD_DCtx* zstd_ = nullptr;
  bool in_frame_ = false;
  bool zstd_ended_ = false;
};

}  // namespace

std::unique_ptr<ByteStream> make_plain_tar_stream(std::unique_ptr<ByteStream> blob) {
  return std::make_unique<PlainTarStream>(std::move(blob));
}

}  // namespace pagein::convert
