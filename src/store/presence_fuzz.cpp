// The first two bytes of the input are the number of spans, then the file.
#include <cstddef>
#include <cstdint>

#include "base/endian.h"
#include "store/presence.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const size_t spans = pagein::load_le<uint16_t>(data);
  pagein::store::Presence presence(spans);
  const auto parsed = presence.parse({data + 2, size - 2}, "fuzz");
  size_t count = 0;
  for (size_t i = 0; i < spans; ++i) count += presence.test(i) ? 1 : 0;
  if (count != presence.count()) __builtin_trap();
  if (!parsed.ok() && count != 0) __builtin_trap();
  if (count == spans && presence.first_missing(0, spans) != spans) __builtin_trap();
  return 0;
}
