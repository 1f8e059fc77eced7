// Where a layer's bytes come from.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "oci/digest.h"
#include "registry/blob_source.h"

namespace pagein::fetch {

// Immutable.
struct LayerOrigin {
  std::shared_ptr<registry::BlobSource> source;
  oci::Digest index_blob;  // holds the checkpoint payloads behind its head
  uint64_t index_blob_size = 0;
  std::string name;  // repository or folder, for messages
};

}  // namespace pagein::fetch
