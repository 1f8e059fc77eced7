#include <cstdlib>

#include "base/file.h"
#include "oci/image_config.h"
#include "oci/manifest.h"

// Whatever parses is written and read back to the same bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  const ByteView text(data, size);
  if (const auto manifest = oci::parse_manifest(text); manifest.ok()) {
    const std::string once = oci::serialize(*manifest);
    const auto again = oci::parse_manifest(as_bytes(once));
    if (!again.ok() || oci::serialize(*again) != once) std::abort();
  }
  if (const auto index = oci::parse_index(text); index.ok()) {
    const std::string once = oci::serialize(*index);
    const auto again = oci::parse_index(as_bytes(once));
    if (!again.ok() || oci::serialize(*again) != once) std::abort();
    static_cast<void>(oci::select_platform(*index, oci::Platform::host()));
  }
  if (const auto config = oci::parse_image_config(text); config.ok()) {
    if (oci::chain_ids(config->diff_ids).size() != config->diff_ids.size()) std::abort();
  }
  static_cast<void>(oci::detect_manifest_type(text).ok());
  return 0;
}
