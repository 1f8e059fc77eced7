// What is accepted is written again to the same bytes.
#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "startup/pack_head.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  const ByteView bytes(data, size);
  auto head = startup::parse_pack_head(bytes);
  if (!head.ok()) return 0;
  const auto again = startup::write_pack_head(&*head);
  if (!again.ok() || !std::ranges::equal(*again, bytes)) __builtin_trap();
  return 0;
}
