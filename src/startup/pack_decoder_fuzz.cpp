// Two spans' sizes, then a frame.
#include <cstddef>
#include <cstdint>

#include "base/endian.h"
#include "startup/pack_decoder.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  if (size < 8) return 0;
  const uint64_t sizes[] = {load_le<uint32_t>(data), load_le<uint32_t>(data + 4)};
  static startup::PieceDecoder decoder;
  const auto spans = decoder.decode(ByteView(data + 8, size - 8), sizes);
  if (!spans.ok()) return 0;
  for (size_t i = 0; i < 2; ++i) {
    if ((*spans)[i].size() != sizes[i]) __builtin_trap();
  }
  return 0;
}
