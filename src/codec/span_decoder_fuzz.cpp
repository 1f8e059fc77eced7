// Hostile checkpoints and compressed bytes do no harm, and the result does not
// depend on how the bytes were cut (of broken zstd frames, libzstd may or may
// not notice what is behind the span's end). Input: kind, bit, length (2 bytes), size
// of the payload (2 bytes), payload, compressed bytes. The payload is tried as
// it is and, since the fuzzer cannot make zstd frames, stored plainly.
#include <cstdlib>

#include "codec/codec_testing.h"
#include "codec/span_decoder.h"

namespace {

using namespace pagein;
using namespace pagein::codec;

void decode(SpanStart start, uint64_t length, ByteView compressed) {
  static SpanStream stream;
  Bytes exact(compressed.begin(), compressed.end());
  exact.shrink_to_fit();
  Bytes out(length);
  const bool whole = stream.decode(start, exact, out).ok();
  const bool exact_errors =
      start.kind != CheckpointKind::frame_start && start.kind != CheckpointKind::frame_block;
  if (!stream.start(start, length).ok()) {
    if (whole) std::abort();
    return;
  }
  codec::testing::CollectSink sink;
  bool fed = true;
  for (size_t at = 0; at < compressed.size() && fed; at += 7) {
    Bytes piece(compressed.begin() + static_cast<ptrdiff_t>(at),
                compressed.begin() + static_cast<ptrdiff_t>(std::min(at + 7, compressed.size())));
    piece.shrink_to_fit();
    fed = stream.feed(piece, sink).ok();
  }
  if (sink.output.size() > length) std::abort();
  const bool streamed = fed && stream.done();
  if (exact_errors && whole != streamed) std::abort();
  if (whole && streamed && sink.output != out) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 6) return 0;
  SpanStart start{.kind = static_cast<CheckpointKind>(data[0] % 6), .compressed_bit = data[1]};
  const uint64_t length = (data[2] | data[3] << 8) * uint64_t{3};
  const size_t payload_size = std::min<size_t>(data[4] | data[5] << 8, size - 6);
  const ByteView rest(data + 6, size - 6);
  Bytes payload(rest.begin(), rest.begin() + static_cast<ptrdiff_t>(payload_size));
  payload.shrink_to_fit();
  start.payload = payload;
  decode(start, length, rest.subspan(payload_size));
  if (payload.empty()) return 0;
  payload[0] = 0;
  decode(start, length, rest.subspan(payload_size));
  return 0;
}
