#include <cstddef>
#include <cstdint>
#include <string_view>

#include "node/layers.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto parsed = pagein::node::parse_origins({reinterpret_cast<const char*>(data), size});
  if (parsed.ok()) {
    const auto again = pagein::node::parse_origins(pagein::node::format_origins(*parsed));
    if (!again.ok() || *again != *parsed) __builtin_trap();
  }
  return 0;
}
