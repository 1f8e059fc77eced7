// Decodes from a block inside a zstd frame on.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/file.h"
#include "base/result.h"

namespace pagein::codec {

// libzstd gets a frame of our making: a header, the dictionary that the payload
// becomes, and the original's blocks as they are. Where the original ends, this
// one does, without a checksum. Memory while there is one: the span's length
// (its window), and the dictionary. Thread-compatible. Never blocks.
class ZstdSpan {
 public:
  // `length`: bytes wanted; unsupported beyond kMaxZstdSpan. corrupt_input: a
  // payload that is none. The payload is not needed after the call.
  static Result<ZstdSpan> start(ByteView payload, uint64_t length);
  ~ZstdSpan();
  ZstdSpan(ZstdSpan&&) noexcept;
  ZstdSpan& operator=(ZstdSpan&&) noexcept;

  struct Step {
    size_t consumed = 0;  // of `in`
    size_t produced = 0;  // bytes of `out`
  };
  // Ends when one of both is used up. corrupt_input: broken blocks, or more
  // input than the frame has.
  Result<Step> run(ByteView in, std::span<uint8_t> out);

 private:
  struct Context;
  explicit ZstdSpan(std::unique_ptr<Context> context);
  std::unique_ptr<Context> context_;
};

}  // namespace pagein::codec
