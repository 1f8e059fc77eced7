// What is accepted can be written and read again.
#include <cstddef>
#include <cstdint>

#include "startup/trace.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  const auto trace = startup::parse_trace(ByteView(data, size));
  if (!trace.ok()) return 0;
  const std::string text = startup::write_trace(*trace);
  const auto again = startup::parse_trace(as_bytes(text));
  if (!again.ok() || *again != *trace) __builtin_trap();
  return 0;
}
