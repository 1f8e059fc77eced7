// zstd blobs for this folder's tests.
#pragma once

#include <zstd.h>

#include <algorithm>
#include <vector>

#include "base/file.h"

namespace pagein::codec::testing {

struct ZstdFrame {
  int level = 3;
  int window_log = 0;  // 0: as the level has it
  int checksum = 0;
  int content_size = 1;
  // Told piece by piece, so that the window is not made to fit the size.
  int stream = 0;
};

inline Bytes zstd_frame(ByteView data, const ZstdFrame& how = {}) {
  ZSTD_CCtx* c = ZSTD_createCCtx();
  ZSTD_CCtx_setParameter(c, ZSTD_c_compressionLevel, how.level);
  ZSTD_CCtx_setParameter(c, ZSTD_c_windowLog, how.window_log);
  ZSTD_CCtx_setParameter(c, ZSTD_c_checksumFlag, how.checksum);
  ZSTD_CCtx_setParameter(c, ZSTD_c_contentSizeFlag, how.content_size);
  Bytes out(ZSTD_compressBound(data.size()));
  if (how.stream != 0) {
    ZSTD_outBuffer output{out.data(), out.size(), 0};
    ZSTD_inBuffer input{data.data(), data.size(), 0};
    ZSTD_compressStream2(c, &output, &input, ZSTD_e_continue);
    ZSTD_compressStream2(c, &output, &input, ZSTD_e_end);
    out.resize(output.pos);
  } else {
    out.resize(ZSTD_compress2(c, out.data(), out.size(), data.data(), data.size()));
  }
  ZSTD_freeCCtx(c);
  return out;
}

inline Bytes skippable_frame(size_t size) {
  Bytes out = {0x53, 0x2a, 0x4d, 0x18};
  for (int shift = 0; shift < 32; shift += 8) out.push_back(static_cast<uint8_t>(size >> shift));
  out.resize(out.size() + size, 0xfd);
  return out;
}

// Frames of `step` bytes each, with skippable ones here and there.
inline Bytes zstd_frames(ByteView data, size_t step, const ZstdFrame& how = {}) {
  Bytes out;
  const auto add = [&out](const Bytes& part) { out.insert(out.end(), part.begin(), part.end()); };
  for (size_t at = 0, i = 0; at < data.size(); at += step, ++i) {
    if (i % 3 == 1) add(skippable_frame(i % 2 == 0 ? 0 : 300));
    add(zstd_frame(data.subspan(at, std::min(step, data.size() - at)), how));
  }
  return out;
}

}  // namespace pagein::codec::testing
