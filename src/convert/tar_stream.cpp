#include "convert/tar_stream.h"

#define ZLIB_CONST
#include <zlib.h>

#include <algorithm>

#include "base/file.h"

namespace pagein::convert {
namespace {

class ZlibTarStream : public ByteStream {
 public:
  explicit ZlibTarStream(std::unique_ptr<ByteStream> blob)
      : blob_(std::move(blob)), input_(256 << 10) {}
  ~ZlibTarStream() override {
    if (state_ == State::inflating) inflateEnd(&zlib_);
  }

  Result<size_t> read(std::span<uint8_t> out) override {
    for (;;) {
      if (available_ == 0 && !ended_) RETURN_IF_ERROR(refill());
      switch (state_) {
        case State::start:
          if (available_ >= 2 && input_[at_] == 0x1f && input_[at_ + 1] == 0x8b) {
            RETURN_IF_ERROR(begin_member());
          } else {
            state_ = State::plain;
          }
          break;
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
  enum class State { start, plain, inflating, between };

  Status refill() {
    at_ = 0;
    ASSIGN_OR_RETURN(available_, blob_->read(input_));
    ended_ = available_ == 0;
    return {};
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
};

}  // namespace

std::unique_ptr<ByteStream> make_zlib_tar_stream(std::unique_ptr<ByteStream> blob) {
  return std::make_unique<ZlibTarStream>(std::move(blob));
}

}  // namespace pagein::convert
