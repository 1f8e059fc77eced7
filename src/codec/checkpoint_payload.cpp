#include "codec/checkpoint_payload.h"

#include <zstd.h>

#include <algorithm>

#include "base/byte_reader.h"

namespace pagein::codec {
namespace {

enum class Storage : uint8_t { plain = 0, zstd = 1 };

constexpr int kZstdLevel = 3;
constexpr size_t kDynamicBytes = (kLitlenSymbols + kDistanceSymbols) / 2;
constexpr size_t kMaxContent = 3 + kDynamicBytes + kWindowBytes;
static_assert(1 + kMaxContent <= kMaxPayloadBytes);
static_assert(kLitlenSymbols % 2 == 0 && kDistanceSymbols % 2 == 0);

void write_lengths(std::span<const uint8_t> lengths, Bytes& out) {
  for (size_t i = 0; i < lengths.size(); i += 2) {
    out.push_back(static_cast<uint8_t>(lengths[i] | lengths[i + 1] << 4));
  }
}

Status read_lengths(ByteReader& in, std::span<uint8_t> lengths) {
  ASSIGN_OR_RETURN(const ByteView packed, in.take(lengths.size() / 2));
  for (size_t i = 0; i < packed.size(); ++i) {
    lengths[2 * i] = packed[i] & 15;
    lengths[2 * i + 1] = packed[i] >> 4;
  }
  return {};
}

void write_block(const BlockState& block, Bytes& out) {
  out.push_back(static_cast<uint8_t>(static_cast<unsigned>(block.type) | (block.last ? 4U : 0U)));
  if (block.type == BlockType::stored) {
    out.push_back(static_cast<uint8_t>(block.stored_remaining));
    out.push_back(static_cast<uint8_t>(block.stored_remaining >> 8));
  } else if (block.type == BlockType::dynamic) {
    write_lengths(block.litlen_lengths, out);
    write_lengths(block.distance_lengths, out);
  }
}

Status read_block(ByteReader& in, BlockState& block) {
  ASSIGN_OR_RETURN(const uint8_t flags, in.u8());
  if (flags > 6 || (flags & 3) == 3) {
    return Error(Code::corrupt_input, "checkpoint: unknown block flags");
  }
  block.type = static_cast<BlockType>(flags & 3);
  block.last = (flags & 4) != 0;
  block.stored_remaining = 0;
  if (block.type == BlockType::stored) {
    ASSIGN_OR_RETURN(block.stored_remaining, in.u16());
  } else if (block.type == BlockType::dynamic) {
    RETURN_IF_ERROR(read_lengths(in, block.litlen_lengths));
    RETURN_IF_ERROR(read_lengths(in, block.distance_lengths));
  }
  return {};
}

}  // namespace

struct PayloadPacker::Context {
  ZSTD_CCtx* zstd = ZSTD_createCCtx();
  ~Context() { ZSTD_freeCCtx(zstd); }
};

PayloadPacker::PayloadPacker() : context_(std::make_unique<Context>()) {
  ZSTD_CCtx_setParameter(context_->zstd, ZSTD_c_compressionLevel, kZstdLevel);
}
PayloadPacker::~PayloadPacker() = default;

Bytes PayloadPacker::pack(CheckpointKind kind, const CheckpointPayload& payload) {
  content_.clear();
  if (kind == CheckpointKind::mid_block) write_block(payload.block, content_);
  content_.insert(content_.end(), payload.window.begin(), payload.window.end());
  if (content_.empty()) return {};

  Bytes packed(1 + ZSTD_compressBound(content_.size()));
  const size_t n = ZSTD_compress2(context_->zstd, packed.data() + 1, packed.size() - 1,
                                  content_.data(), content_.size());
  if (!ZSTD_isError(n) && n < content_.size()) {
    packed[0] = static_cast<uint8_t>(Storage::zstd);
    packed.resize(1 + n);
  } else {
    packed[0] = static_cast<uint8_t>(Storage::plain);
    packed.resize(1 + content_.size());
    std::copy(content_.begin(), content_.end(), packed.begin() + 1);
  }
  packed.shrink_to_fit();
  return packed;
}

struct PayloadUnpacker::Context {
  ZSTD_DCtx* zstd = ZSTD_createDCtx();
  ~Context() { ZSTD_freeDCtx(zstd); }
};

PayloadUnpacker::PayloadUnpacker() : context_(std::make_unique<Context>()) {}
PayloadUnpacker::~PayloadUnpacker() = default;
PayloadUnpacker::PayloadUnpacker(PayloadUnpacker&&) noexcept = default;
PayloadUnpacker& PayloadUnpacker::operator=(PayloadUnpacker&&) noexcept = default;

Status PayloadUnpacker::unpack(CheckpointKind kind, ByteView packed, CheckpointPayload& payload) {
  payload.window.clear();
  const bool may_hold = kind == CheckpointKind::mid_block || kind == CheckpointKind::block_boundary;
  if (packed.empty() && kind != CheckpointKind::mid_block) return {};
  if (!may_hold || packed.size() < 2 || packed.size() > kMaxPayloadBytes) {
    return Error(Code::corrupt_input, "checkpoint: a payload of a size that its kind cannot have");
  }
  ByteView content = packed.subspan(1);
  if (packed[0] == static_cast<uint8_t>(Storage::zstd)) {
    content_.resize(kMaxContent);
    const size_t n = ZSTD_decompressDCtx(context_->zstd, content_.data(), content_.size(),
                                         content.data(), content.size());
    if (ZSTD_isError(n)) {
      return Error(Code::corrupt_input,
                   std::string("checkpoint: a payload's zstd frame: ") + ZSTD_getErrorName(n));
    }
    content = ByteView(content_).first(n);
  } else if (packed[0] != static_cast<uint8_t>(Storage::plain)) {
    return Error(Code::corrupt_input, "checkpoint: a payload stored in an unknown way");
  }
  ByteReader in(content, "checkpoint payload");
  if (kind == CheckpointKind::mid_block) RETURN_IF_ERROR(read_block(in, payload.block));
  if (in.remaining() > kWindowBytes) {
    return Error(Code::corrupt_input, "checkpoint: a window of more than 32 KiB");
  }
  ASSIGN_OR_RETURN(const ByteView window, in.take(in.remaining()));
  payload.window.assign(window.begin(), window.end());
  return {};
}

}  // namespace pagein::codec
