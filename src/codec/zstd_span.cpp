#define ZSTD_STATIC_LINKING_ONLY  // for ZSTD_DCtx_loadDictionary_byReference
#include "codec/zstd_span.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <new>
#include <string>
#include <utility>

#include "codec/span_indexer.h"
#include "codec/zstd_checkpoint.h"

namespace pagein::codec {
namespace {

// RFC 8878, section 3.1.1: magic; a descriptor without content size, checksum
// and dictionary; the window's size as a power of two.
using FrameHead = std::array<uint8_t, 6>;
FrameHead frame_head(uint64_t length) {
  // No shorter than a block; as long as the span, it never has to move.
  const auto log =
      static_cast<unsigned>(std::bit_width(std::max<uint64_t>(length, kZstdMaxBlock) - 1));
  return {0x28, 0xb5, 0x2f, 0xfd, 0, static_cast<uint8_t>((log - 10) << 3)};
}

}  // namespace

struct ZstdSpan::Context {
  Context() : zstd(ZSTD_createDCtx()) {
    if (zstd == nullptr) throw std::bad_alloc();
  }
  ~Context() { ZSTD_freeDCtx(zstd); }

  ZSTD_DCtx* const zstd;
  ZstdDictionary dictionary;  // referred to
  bool ended = false;
};

ZstdSpan::ZstdSpan(std::unique_ptr<Context> context) : context_(std::move(context)) {}
ZstdSpan::~ZstdSpan() = default;
ZstdSpan::ZstdSpan(ZstdSpan&&) noexcept = default;
ZstdSpan& ZstdSpan::operator=(ZstdSpan&&) noexcept = default;

Result<ZstdSpan> ZstdSpan::start(ByteView payload, uint64_t length) {
  if (length > kMaxZstdSpan) {
    return Error(Code::unsupported, "span: too long for one inside a zstd frame");
  }
  auto context = std::make_unique<Context>();
  if (!payload.empty()) {
    ASSIGN_OR_RETURN(context->dictionary, make_zstd_dictionary(payload));
    const ByteView bytes = context->dictionary.bytes();
    const size_t loaded =
        ZSTD_DCtx_loadDictionary_byReference(context->zstd, bytes.data(), bytes.size());
    if (ZSTD_isError(loaded)) {
      return Error(Code::corrupt_input, "checkpoint: tables that libzstd does not take");
    }
  }
  const FrameHead head = frame_head(length);
  ZSTD_inBuffer input{head.data(), head.size(), 0};
  ZSTD_outBuffer output{nullptr, 0, 0};
  const size_t result = ZSTD_decompressStream(context->zstd, &output, &input);
  if (ZSTD_isError(result) || input.pos != input.size) {
    return Error(Code::corrupt_input, std::string("zstd: ") + ZSTD_getErrorName(result));
  }
  return ZstdSpan(std::move(context));
}

Result<ZstdSpan::Step> ZstdSpan::run(ByteView in, std::span<uint8_t> out) {
  ZSTD_inBuffer input{in.data(), in.size(), 0};
  ZSTD_outBuffer output{out.data(), out.size(), 0};
  while (output.pos < output.size) {
    if (context_->ended) {
      return Error(Code::corrupt_input, "zstd: the frame ends before the span does");
    }
    const size_t in_before = input.pos;
    const size_t out_before = output.pos;
    const size_t result = ZSTD_decompressStream(context_->zstd, &output, &input);
    if (ZSTD_isError(result)) {
      return Error(Code::corrupt_input, std::string("zstd: ") + ZSTD_getErrorName(result));
    }
    if (result == 0) {
      context_->ended = true;
      break;
    }
    if (input.pos == in_before && output.pos == out_before) break;
  }
  return Step{input.pos, output.pos};
}

}  // namespace pagein::codec
