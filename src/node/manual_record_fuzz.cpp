#include <cstddef>
#include <cstdint>
#include <string_view>

#include "node/manual_record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein::node;
  const auto parsed = parse_manual({reinterpret_cast<const char*>(data), size});
  if (parsed.ok()) {
    const std::string text = format_manual(*parsed);
    const auto again = parse_manual(text);
    if (!again.ok() || format_manual(*again) != text) __builtin_trap();
  }
  return 0;
}
