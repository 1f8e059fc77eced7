#include <cstddef>
#include <cstdint>
#include <string_view>

#include "store/layer_files.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto state = pagein::store::parse_state({reinterpret_cast<const char*>(data), size});
  if (state.ok()) {
    const auto again = pagein::store::parse_state(pagein::store::format_state(*state));
    if (!again.ok() || again->complete != state->complete) __builtin_trap();
  }
  return 0;
}
