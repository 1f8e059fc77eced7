#include "startup/pack_decoder.h"

#include <zstd.h>

#include "startup/pack_format.h"

namespace pagein::startup {
namespace {

Error corrupt(std::string_view why) {
  return Error(Code::corrupt_input, "piece of a startup pack: " + std::string(why));
}

struct FreeContext {
  void operator()(ZSTD_DCtx* context) const { ZSTD_freeDCtx(context); }
};

// The frame says what it will take before anything is allocated for it.
Status check_frame(ByteView frame, uint64_t wanted) {
  if (frame.size() > kMaxStoredPiece) return corrupt("beyond the limit");
  // libzstd may have been built to read older formats, and passes over skippable frames.
  if (frame.size() < 4 || load_le<uint32_t>(frame.data()) != ZSTD_MAGICNUMBER) {
    return corrupt("no zstd frame");
  }
  const size_t length = ZSTD_findFrameCompressedSize(frame.data(), frame.size());
  if (ZSTD_isError(length) || length != frame.size()) return corrupt("not one whole zstd frame");
  if (ZSTD_getFrameContentSize(frame.data(), frame.size()) != wanted) {
    return corrupt("another length than its spans");
  }
  if (ZSTD_getDictID_fromFrame(frame.data(), frame.size()) != 0) return corrupt("a dictionary");
  return {};
}

}  // namespace

struct PieceDecoder::Context {
  std::unique_ptr<ZSTD_DCtx, FreeContext> zstd{ZSTD_createDCtx()};
  Bytes tar;
};

PieceDecoder::PieceDecoder() : context_(std::make_unique<Context>()) {}
PieceDecoder::~PieceDecoder() = default;
PieceDecoder::PieceDecoder(PieceDecoder&&) noexcept = default;
PieceDecoder& PieceDecoder::operator=(PieceDecoder&&) noexcept = default;

Result<std::vector<ByteView>> PieceDecoder::decode(ByteView frame,
                                                   std::span<const uint64_t> span_sizes) {
  uint64_t length = 0;
  for (const uint64_t size : span_sizes) {
    if (size > kMaxPieceBytes - length) return corrupt("longer than the limit");
    length += size;
  }
  RETURN_IF_ERROR(check_frame(frame, length));
  context_->tar.resize(length);
  const size_t decoded = ZSTD_decompressDCtx(context_->zstd.get(), context_->tar.data(), length,
                                             frame.data(), frame.size());
  if (ZSTD_isError(decoded)) return corrupt(ZSTD_getErrorName(decoded));
  if (decoded != length) return corrupt("another length than its spans");
  std::vector<ByteView> spans;
  spans.reserve(span_sizes.size());
  ByteView rest = context_->tar;
  for (const uint64_t size : span_sizes) {
    spans.push_back(rest.first(size));
    rest = rest.subspan(size);
  }
  return spans;
}

}  // namespace pagein::startup
