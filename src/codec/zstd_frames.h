// Decodes zstd frames (RFC 8878) one after the other as their bytes arrive.
// What the indexer and the span decoder share.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "base/file.h"
#include "base/result.h"

namespace pagein::codec {

// Frames may follow each other, with skippable ones among them. Only frames of
// RFC 8878 are let through to libzstd, which may have been built to read older
// formats too. A frame's window may have 128 MiB (`zstd --ultra` writes no
// more; what libzstd takes by itself), or less where the caller says so: libzstd
// allocates it when the frame's header says so. Thread-compatible. Never blocks.
class ZstdFrames {
 public:
  // `max_window_log`: frames with larger windows are `unsupported`.
  explicit ZstdFrames(int max_window_log);
  ~ZstdFrames();
  ZstdFrames(ZstdFrames&&) noexcept;
  ZstdFrames& operator=(ZstdFrames&&) noexcept;

  // At the first byte of a frame.
  void restart();

  enum class Event {
    need_input,   // all of `in` is used up, and all that it yields is out
    output_full,  // `out` is used up; more may come
    data_begins,  // behind the magic number of a frame that is not skippable
    frame_end,    // of a frame that is not skippable
  };
  struct Step {
    Event event = Event::need_input;
    size_t consumed = 0;  // of `in`
    size_t produced = 0;  // bytes of `out`
  };
  // Goes on until something happens. corrupt_input: no frame, or a broken one.
  Result<Step> run(ByteView in, std::span<uint8_t> out);

  // Before the first byte of a frame, or of a skippable one.
  bool between_frames() const { return state_ == State::magic && magic_fill_ == 0; }

 private:
  enum class State { magic, skip_size, skipping, data_begins, data };
  struct Context;

  Status on_magic();
  Result<Step> decode(ByteView in, std::span<uint8_t> out, size_t consumed);

  std::unique_ptr<Context> context_;
  State state_ = State::magic;
  std::array<uint8_t, 4> magic_{};  // or a skippable frame's size
  size_t magic_fill_ = 0;
  size_t magic_fed_ = 0;    // bytes of the magic number that libzstd has
  uint64_t skip_left_ = 0;  // of a skippable frame
};

// What a node spends on a decoder: RFC 8878, section 3.1.1.1.2 recommends
// 8 MiB, and the encoders of images keep to it.
inline constexpr int kNodeWindowLog = 23;
inline constexpr int kConverterWindowLog = 27;

}  // namespace pagein::codec
