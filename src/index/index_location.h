// How a layer's descriptor in an accelerated image says where its index is
// (oci/annotations.h names the annotations).
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "oci/descriptor.h"
#include "oci/digest.h"

namespace pagein::index {

struct IndexLocation {
  oci::Digest digest;       // of the whole index blob
  uint64_t size = 0;        // of it, bytes
  uint64_t head_size = 0;   // bytes before the checkpoint payloads
  oci::Digest head_digest;  // verifies a head that was read by range
  bool operator==(const IndexLocation&) const = default;
};

// nullopt where there is no index, or where the annotations are not
// well-formed or beyond the format's limits: such a layer is an ordinary one.
std::optional<IndexLocation> parse_index_location(const oci::Descriptor& layer);
void set_index_location(oci::Descriptor* layer, const IndexLocation& location);

}  // namespace pagein::index
