// How the manifest of an accelerated image says where its startup pack is
// (oci/annotations.h names the annotations).
#pragma once

#include <cstdint>
#include <optional>

#include "oci/digest.h"
#include "oci/manifest.h"

namespace pagein::startup {

struct PackLocation {
  oci::Digest digest;       // of the whole pack
  uint64_t size = 0;        // of it, bytes
  uint64_t head_size = 0;   // bytes before the first frame
  oci::Digest head_digest;  // verifies a head that was read by range
  bool operator==(const PackLocation&) const = default;
};

// nullopt where there is no pack, or where the annotations are not well-formed
// or beyond the format's limits: such an image starts without one.
std::optional<PackLocation> parse_pack_location(const oci::Annotations& of_manifest);
void set_pack_location(oci::Manifest* manifest, const PackLocation& location);

}  // namespace pagein::startup
