#include "index/section.h"

#include <zstd.h>

#include <memory>
#include <string>

namespace pagein::index {

namespace {

constexpr int kLevel = 12;

struct FreeContext {
  void operator()(ZSTD_CCtx* context) const { ZSTD_freeCCtx(context); }
};

}  // namespace

Result<Bytes> compress_section(ByteView raw) {
  const std::unique_ptr<ZSTD_CCtx, FreeContext> context(ZSTD_createCCtx());
  if (!context) return Error(Code::exhausted, "layer index: no memory for zstd");
  Bytes out(ZSTD_compressBound(raw.size()));
  const size_t size =
      ZSTD_compressCCtx(context.get(), out.data(), out.size(), raw.data(), raw.size(), kLevel);
  if (ZSTD_isError(size) != 0) {
    return Error(Code::internal, std::string("layer index: zstd: ") + ZSTD_getErrorName(size));
  }
  out.resize(size);
  return out;
}

Result<Bytes> decompress_section(ByteView stored, uint64_t raw_size, std::string_view what) {
  // A second frame, or one of another size, is not what we write.
  const bool one_frame =
      ZSTD_getFrameContentSize(stored.data(), stored.size()) == raw_size &&
      ZSTD_findFrameCompressedSize(stored.data(), stored.size()) == stored.size();
  Bytes out;
  if (one_frame) {
    out.resize(static_cast<size_t>(raw_size));
    if (ZSTD_decompress(out.data(), out.size(), stored.data(), stored.size()) == raw_size) {
      return out;
    }
  }
  return Error(Code::corrupt_input,
               "layer index: section \"" + std::string(what) + "\" does not decompress");
}

}  // namespace pagein::index
