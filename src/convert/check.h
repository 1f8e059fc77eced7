// Proves that an accelerated image yields its base image's tree and bytes.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "registry/image_store.h"

namespace pagein::convert {

struct CheckReport {
  size_t images = 0;  // platforms compared
  size_t layers = 0;  // with an index: decoded span by span and compared
  // Without one: the same blob in both, nothing to prove, or another one of the
  // same diffID.
  size_t ordinary = 0;
  uint64_t files = 0;
  uint64_t tar_bytes = 0;
  size_t packs = 0;        // startup packs
  size_t pack_pieces = 0;  // that were decoded
  // What differs, one line each; empty: the images are the same.
  std::vector<std::string> differences;
};

// Decodes every span of every index alone, from its checkpoint, and compares
// with the base's tar as zlib or libzstd decodes it; compares the index's file
// table with the base's tar; hashes the tar (diffID). Layers that were re-encoded
// are decoded as one stream too, as every client does. Configs must be the same blob.
// A startup pack's frames are decoded and compared with the digests of its spans.
// `progress` is told layer digests as they begin. Blocks; one layer at a time.
// Errors are for what could not be compared at all.
Result<CheckReport> check_image(registry::ImageSource& base, registry::ImageSource& accelerated,
                                const std::function<void(const std::string&)>& progress);

}  // namespace pagein::convert
