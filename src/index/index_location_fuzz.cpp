// The four annotations, one a line, as a hostile manifest may give them.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "index/index_location.h"
#include "oci/annotations.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  oci::Descriptor layer;
  for (const std::string_view key :
       {oci::annotation::kIndexDigest, oci::annotation::kIndexSize, oci::annotation::kIndexHeadSize,
        oci::annotation::kIndexHeadDigest}) {
    const size_t end = std::min(text.find('\n'), text.size());
    layer.annotations[std::string(key)] = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (const auto location = index::parse_index_location(layer)) {
    oci::Descriptor again;
    index::set_index_location(&again, *location);
    if (index::parse_index_location(again) != location) __builtin_trap();
  }
  return 0;
}
