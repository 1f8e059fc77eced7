// The indexer takes any blob without harm. What it accepts, zlib accepts with
// the same bytes, and every span decodes to its part of them.
// The first byte seeds the cutting into pieces.
#include <cstdlib>

#include "codec/codec_testing.h"
#include "codec/span_decoder.h"

namespace {

using namespace pagein::codec;

void check(bool good) {
  if (!good) std::abort();
}

// Returns false for more than `cap` bytes.
bool zlib_gunzip(pagein::ByteView blob, size_t cap, pagein::Bytes& out) {
  z_stream z{};
  inflateInit2(&z, 31);
  z.next_in = const_cast<Bytef*>(blob.data());
  z.avail_in = static_cast<uInt>(blob.size());
  int code = Z_OK;
  while (out.size() < cap) {
    const size_t at = out.size();
    out.resize(at + 65536);
    z.next_out = out.data() + at;
    z.avail_out = 65536;
    code = inflate(&z, Z_NO_FLUSH);
    out.resize(at + 65536 - z.avail_out);
    if (code == Z_STREAM_END && z.avail_in > 0 && z.next_in[0] != 0) {
      code = inflateReset(&z);
    } else if (code != Z_OK) {
      break;
    }
  }
  inflateEnd(&z);
  check(out.size() >= cap || code == Z_STREAM_END);
  return out.size() < cap;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const pagein::ByteView blob(data + 1, size - 1);
  const testing::Indexed indexed = testing::index_blob(blob, kMinSpacing, 0, data[0]);
  if (!indexed.status.ok()) return 0;
  check(indexed.sink.ordered);
  pagein::Bytes expected;
  if (zlib_gunzip(blob, 4 << 20, expected)) check(expected == indexed.sink.output);

  static SpanStream stream;
  const auto& checkpoints = indexed.sink.checkpoints;
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    const bool last = i + 1 == checkpoints.size();
    const uint64_t from = checkpoints[i].uncompressed_offset;
    const uint64_t to =
        last ? indexed.summary.uncompressed_size : checkpoints[i + 1].uncompressed_offset;
    check(to > from && to - from <= max_span_bytes(kMinSpacing));
    const uint64_t begin = first_byte(checkpoints[i].compressed_bit);
    const uint64_t end =
        last ? indexed.summary.compressed_end : end_byte(checkpoints[i + 1].compressed_bit);
    pagein::Bytes compressed(blob.begin() + static_cast<ptrdiff_t>(begin),
                             blob.begin() + static_cast<ptrdiff_t>(end));
    compressed.shrink_to_fit();
    pagein::Bytes out(to - from);
    check(stream.decode(span_start(checkpoints[i]), compressed, out).ok());
    check(std::equal(out.begin(), out.end(),
                     indexed.sink.output.begin() + static_cast<ptrdiff_t>(from)));
  }
  return 0;
}
