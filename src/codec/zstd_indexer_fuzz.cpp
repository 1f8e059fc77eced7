// The indexer takes any blob without harm; how it was cut into pieces changes
// nothing; of what it accepts, every span decodes to its part of the tar.
// The first byte seeds the cutting.
#include <cstdlib>

#include "codec/codec_testing.h"
#include "codec/span_decoder.h"

namespace {

using namespace pagein::codec;

void check(bool good) {
  if (!good) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  const pagein::ByteView blob(data + 1, size - 1);
  const testing::Indexed indexed =
      testing::index_blob(blob, kMinSpacing, 0, data[0], Encoding::zstd, 10000);
  check(indexed.sink.ordered || indexed.sink.output.empty());
  if (!indexed.status.ok()) return 0;
  static SpanStream stream;
  const auto& checkpoints = indexed.sink.checkpoints;
  for (size_t i = 0; i < checkpoints.size(); ++i) {
    const bool last = i + 1 == checkpoints.size();
    const uint64_t from = checkpoints[i].uncompressed_offset;
    const uint64_t to =
        last ? indexed.summary.uncompressed_size : checkpoints[i + 1].uncompressed_offset;
    check(to > from && to - from <= kMaxZstdSpan);
    const uint64_t begin = first_byte(checkpoints[i].compressed_bit);
    const uint64_t end =
        last ? indexed.summary.compressed_end : end_byte(checkpoints[i + 1].compressed_bit);
    pagein::Bytes compressed(blob.begin() + static_cast<ptrdiff_t>(begin),
                             blob.begin() + static_cast<ptrdiff_t>(end));
    compressed.shrink_to_fit();
    pagein::Bytes out(to - from);
    const pagein::Status status = stream.decode(span_start(checkpoints[i]), compressed, out);
    // A node takes shorter windows than the converter.
    if (!status.ok() && status.error().code == pagein::Code::unsupported) continue;
    check(status.ok());
    check(std::equal(out.begin(), out.end(),
                     indexed.sink.output.begin() + static_cast<ptrdiff_t>(from)));
  }
  return 0;
}
