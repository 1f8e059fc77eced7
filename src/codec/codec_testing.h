// Data and compressors for this folder's tests.
#pragma once

#include <libdeflate.h>
#include <zlib.h>

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "base/file.h"
#include "codec/span_indexer.h"

namespace pagein::codec::testing {

enum class Content { text, random, zeros, records, mixed };

inline void append_text(Bytes& out, size_t size, std::mt19937& random) {
  static const char* const kWords[] = {"the",      "layer", "of ",   "function", "return", "\n  ",
                                       "import",   "(",     ");\n",  "const",    "index",  "=",
                                       "usr/lib/", ".so",   "value", "0x",       "{",      "}\n"};
  const size_t end = out.size() + size;
  while (out.size() < end) {
    const std::string_view word = kWords[random() % std::size(kWords)];
    out.insert(out.end(), word.begin(), word.end());
    out.push_back(random() % 7 == 0 ? static_cast<uint8_t>('a' + random() % 26) : ' ');
  }
  out.resize(end);
}

inline void append(Bytes& out, Content content, size_t size, std::mt19937& random) {
  switch (content) {
    case Content::text: append_text(out, size, random); return;
    case Content::random:
      for (size_t i = 0; i < size; ++i) out.push_back(static_cast<uint8_t>(random()));
      return;
    case Content::zeros: out.resize(out.size() + size); return;
    case Content::records:  // short distances of every size
      for (size_t i = 0; i < size; ++i) {
        const size_t period = 1 + (i >> 9) % 40;
        const bool fresh = i % 512 < period || random() % 97 == 0;
        out.push_back(fresh ? static_cast<uint8_t>(random() % 64) : out[out.size() - period]);
      }
      return;
    case Content::mixed:
      while (size > 0) {
        const size_t n = std::min<size_t>(size, 1 + random() % 40000);
        append(out, static_cast<Content>(random() % 4), n, random);
        size -= n;
      }
      return;
  }
}

inline Bytes make_content(Content content, size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  Bytes out;
  out.reserve(size);
  append(out, content, size, random);
  return out;
}

struct Deflate {
  int level = 6;
  int strategy = Z_DEFAULT_STRATEGY;
  int memory = 8;
  int window_bits = 31;    // 31: gzip, -15: raw
  int flush = Z_NO_FLUSH;  // after each `flush_every` bytes
  size_t flush_every = 10000;
};

inline Bytes compress(ByteView data, const Deflate& how) {
  z_stream z{};
  deflateInit2(&z, how.level, Z_DEFLATED, how.window_bits, how.memory, how.strategy);
  Bytes out(compressBound(data.size()) + data.size() / how.flush_every * 64 + 4096);
  z.next_out = out.data();
  z.avail_out = static_cast<uInt>(out.size());
  while (how.flush != Z_NO_FLUSH && data.size() > how.flush_every) {
    z.next_in = const_cast<Bytef*>(data.data());
    z.avail_in = static_cast<uInt>(how.flush_every);
    deflate(&z, how.flush);
    data = data.subspan(how.flush_every);
  }
  z.next_in = const_cast<Bytef*>(data.data());
  z.avail_in = static_cast<uInt>(data.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

inline Bytes compress_libdeflate(ByteView data, int level) {
  libdeflate_compressor* c = libdeflate_alloc_compressor(level);
  Bytes out(libdeflate_gzip_compress_bound(c, data.size()));
  out.resize(libdeflate_gzip_compress(c, data.data(), data.size(), out.data(), out.size()));
  libdeflate_free_compressor(c);
  return out;
}

// What zlib makes of raw DEFLATE data: whether it is complete and valid, and
// the bytes.
struct Inflated {
  bool valid = false;
  Bytes bytes;
  size_t used = 0;
};

inline Inflated zlib_inflate_raw(ByteView data, size_t cap = size_t{1} << 26) {
  z_stream z{};
  inflateInit2(&z, -15);
  Inflated result;
  z.next_in = const_cast<Bytef*>(data.data());
  z.avail_in = static_cast<uInt>(data.size());
  int code = Z_OK;
  while (code == Z_OK && result.bytes.size() < cap) {
    const size_t at = result.bytes.size();
    result.bytes.resize(at + 65536);
    z.next_out = result.bytes.data() + at;
    z.avail_out = 65536;
    code = inflate(&z, Z_NO_FLUSH);
    result.bytes.resize(at + 65536 - z.avail_out);
  }
  result.valid = code == Z_STREAM_END;
  result.used = z.total_in;
  inflateEnd(&z);
  return result;
}

// Keeps everything, and checks the order that IndexSink promises.
class CollectSink final : public IndexSink {
 public:
  Status on_output(ByteView piece) override {
    if (piece.empty()) ordered = false;
    if (checkpoints.empty()) ordered = false;
    output.insert(output.end(), piece.begin(), piece.end());
    return {};
  }
  Status on_checkpoint(Checkpoint checkpoint) override {
    if (checkpoint.uncompressed_offset != output.size()) ordered = false;
    if (!checkpoints.empty() &&
        checkpoint.uncompressed_offset <= checkpoints.back().uncompressed_offset) {
      ordered = false;
    }
    checkpoints.push_back(std::move(checkpoint));
    return {};
  }
  Status on_payload(Bytes payload) override {
    if (checkpoints.empty() || !checkpoints.back().payload.empty() || payload.empty()) {
      ordered = false;
    } else {
      checkpoints.back().payload = std::move(payload);
    }
    return {};
  }
  bool ordered = true;
  Bytes output;
  std::vector<Checkpoint> checkpoints;
};

struct Indexed {
  CollectSink sink;
  Status status;
  IndexSummary summary;
};

// `piece` bytes at a time; 0: random pieces.
inline Indexed index_blob(ByteView blob, uint64_t spacing, size_t piece, uint32_t seed = 1,
                          Encoding encoding = Encoding::gzip, uint32_t payload_share = 400) {
  std::mt19937 random(seed);
  Indexed result;
  auto indexer = make_span_indexer(
      encoding, IndexOptions{.spacing = spacing, .payload_share = payload_share}, result.sink);
  if (!indexer.ok()) {
    result.status = indexer.error();
    return result;
  }
  for (size_t at = 0; at < blob.size();) {
    size_t n = piece != 0 ? piece : random() % (random() % 3 == 0 ? 20000 : 20);
    n = std::min(n, blob.size() - at);
    result.status = (*indexer)->feed(blob.subspan(at, n));
    if (!result.status.ok()) return result;
    at += n;
  }
  auto summary = (*indexer)->finish();
  if (summary.ok()) {
    result.summary = *summary;
  } else {
    result.status = summary.error();
  }
  return result;
}

}  // namespace pagein::codec::testing
