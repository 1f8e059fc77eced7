#include <cstddef>
#include <cstdint>
#include <string_view>

#include "node/mount_record.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein::node;
  const auto parsed = parse_image_record({reinterpret_cast<const char*>(data), size});
  if (parsed.ok()) {
    const std::string text = format_image_record(*parsed);
    const auto again = parse_image_record(text);
    if (!again.ok() || format_image_record(*again) != text) __builtin_trap();
  }
  return 0;
}
