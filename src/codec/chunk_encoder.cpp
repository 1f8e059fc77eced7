#include "codec/chunk_encoder.h"

#include <libdeflate.h>
#include <zstd.h>

#include <new>

namespace pagein::codec {
namespace {

constexpr int kGzipLevel = 6;
constexpr int kMaxGzipLevel = 12;
constexpr int kZstdLevel = 4;
constexpr int kMaxZstdLevel = 19;

Status check_size(ByteView chunk) {
  if (chunk.size() <= kMaxChunkBytes) return {};
  return Error(Code::exhausted, "a chunk of a layer is longer than 64 MiB");
}

class GzipChunkEncoder final : public ChunkEncoder {
 public:
  explicit GzipChunkEncoder(int level)
      : level_(level), compressor_(libdeflate_alloc_compressor(level)) {
    if (compressor_ == nullptr) throw std::bad_alloc();
  }
  ~GzipChunkEncoder() override { libdeflate_free_compressor(compressor_); }

  // libdeflate writes a header without name and time: the same for all.
  Status encode(ByteView chunk, Bytes& out) override {
    RETURN_IF_ERROR(check_size(chunk));
    out.resize(libdeflate_gzip_compress_bound(compressor_, chunk.size()));
    const size_t n =
        libdeflate_gzip_compress(compressor_, chunk.data(), chunk.size(), out.data(), out.size());
    if (n == 0) return Error(Code::internal, "libdeflate needs more room than its own bound");
    out.resize(n);
    return {};
  }

  // The library cannot be asked for its version; Debian's releases do not
  // change it, and the header's is that of the release.
  std::string settings() const override {
    return "gzip;libdeflate=" LIBDEFLATE_VERSION_STRING ";level=" + std::to_string(level_);
  }

 private:
  const int level_;
  libdeflate_compressor* const compressor_;
};

class ZstdChunkEncoder final : public ChunkEncoder {
 public:
  explicit ZstdChunkEncoder(int level) : level_(level), context_(ZSTD_createCCtx()) {
    if (context_ == nullptr) throw std::bad_alloc();
    ZSTD_CCtx_setParameter(context_, ZSTD_c_compressionLevel, level);
  }
  ~ZstdChunkEncoder() override { ZSTD_freeCCtx(context_); }

  // A frame names its content's size, so a decoder can give it one buffer, and
  // has no checksum: the index has a digest, and clients check the blob's.
  Status encode(ByteView chunk, Bytes& out) override {
    RETURN_IF_ERROR(check_size(chunk));
    out.resize(ZSTD_compressBound(chunk.size()));
    const size_t n = ZSTD_compress2(context_, out.data(), out.size(), chunk.data(), chunk.size());
    if (ZSTD_isError(n))
      return Error(Code::internal, std::string("libzstd: ") + ZSTD_getErrorName(n));
    out.resize(n);
    return {};
  }

  std::string settings() const override {
    return std::string("zstd;libzstd=") + ZSTD_versionString() + ";level=" + std::to_string(level_);
  }

 private:
  const int level_;
  ZSTD_CCtx* const context_;
};

}  // namespace

Result<std::unique_ptr<ChunkEncoder>> make_chunk_encoder(const ChunkEncoderOptions& options) {
  const bool gzip = options.encoding == Encoding::gzip;
  if (!gzip && options.encoding != Encoding::zstd) {
    return Error(Code::invalid_argument, "chunks are encoded as gzip or zstd");
  }
  const int level = options.level != 0 ? options.level : gzip ? kGzipLevel : kZstdLevel;
  if (level < 1 || level > (gzip ? kMaxGzipLevel : kMaxZstdLevel)) {
    return Error(Code::invalid_argument,
                 "there is no level " + std::to_string(level) + (gzip ? " of gzip" : " of zstd"));
  }
  std::unique_ptr<ChunkEncoder> encoder;
  if (gzip) encoder = std::make_unique<GzipChunkEncoder>(level);
  else encoder = std::make_unique<ZstdChunkEncoder>(level);
  return encoder;
}

CheckpointKind chunk_kind(Encoding encoding) {
  switch (encoding) {
    case Encoding::identity: return CheckpointKind::identity;
    case Encoding::gzip: return CheckpointKind::member_start;
    case Encoding::zstd: return CheckpointKind::frame_start;
    case Encoding::zstd_blocks: break;  // not made of chunks
  }
  return CheckpointKind::identity;
}

}  // namespace pagein::codec
