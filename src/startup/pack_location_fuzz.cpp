// The four annotations, one a line, as a hostile manifest may give them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "oci/annotations.h"
#include "startup/pack_location.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  std::string_view text(reinterpret_cast<const char*>(data), size);
  oci::Annotations annotations;
  for (const std::string_view key :
       {oci::annotation::kStartupDigest, oci::annotation::kStartupSize,
        oci::annotation::kStartupHeadSize, oci::annotation::kStartupHeadDigest}) {
    const size_t end = std::min(text.find('\n'), text.size());
    annotations[std::string(key)] = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  if (const auto location = startup::parse_pack_location(annotations)) {
    oci::Manifest again;
    startup::set_pack_location(&again, *location);
    if (startup::parse_pack_location(again.annotations) != location) __builtin_trap();
  }
  return 0;
}
