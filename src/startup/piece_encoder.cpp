#include "startup/piece_encoder.h"

#include <zstd.h>

#include "startup/pack_format.h"

namespace pagein::startup {
namespace {

constexpr int kWindowLog = 23;  // what a node's decoder takes, kMaxPieceBytes

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

}  // namespace

struct PieceEncoder::Context {
  std::unique_ptr<ZSTD_CCtx, FreeContext> zstd{ZSTD_createCCtx()};
  int level;
  Bytes frame;
};

PieceEncoder::PieceEncoder(int level) : context_(std::make_unique<Context>()) {
  context_->level = level;
}
PieceEncoder::~PieceEncoder() = default;
PieceEncoder::PieceEncoder(PieceEncoder&&) noexcept = default;
PieceEncoder& PieceEncoder::operator=(PieceEncoder&&) noexcept = default;

Result<ByteView> PieceEncoder::encode(ByteView tar) {
  if (tar.empty() || tar.size() > kMaxPieceBytes) {
    return Error(Code::invalid_argument,
                 "a piece of a startup pack cannot have " + std::to_string(tar.size()) + " bytes");
  }
  ZSTD_CCtx* zstd = context_->zstd.get();
  ZSTD_CCtx_reset(zstd, ZSTD_reset_session_and_parameters);
  ZSTD_CCtx_setParameter(zstd, ZSTD_c_compressionLevel, context_->level);
  // Low levels have smaller windows anyway: only the highest would exceed it.
  if (ZSTD_cParam_getBounds(ZSTD_c_windowLog).upperBound >= kWindowLog && context_->level > 18) {
    ZSTD_CCtx_setParameter(zstd, ZSTD_c_windowLog, kWindowLog);
  }
  Bytes& frame = context_->frame;
  frame.resize(ZSTD_compressBound(tar.size()));
  const size_t size = ZSTD_compress2(zstd, frame.data(), frame.size(), tar.data(), tar.size());
  if (ZSTD_isError(size)) {
    return Error(Code::internal, std::string("compressing a piece: ") + ZSTD_getErrorName(size));
  }
  return ByteView(frame).first(size);
}

}  // namespace pagein::startup
