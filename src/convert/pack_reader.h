// A startup pack read from wherever the accelerated image is.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "convert/base_image.h"
#include "index/layer_index.h"
#include "registry/image_store.h"
#include "startup/pack_head.h"
#include "startup/pack_location.h"

namespace pagein::convert {

using IndexesByDiffId = std::map<oci::Digest, std::shared_ptr<const index::LayerIndex>>;

// The head, verified against its digest and parsed. Blocks.
Result<startup::PackHead> read_pack_head(registry::BlobSource& source,
                                         const startup::PackLocation& location);

struct PackContents {
  size_t pieces = 0;
  size_t stored_pieces = 0;
  uint64_t tar_bytes = 0;         // of all pieces
  uint64_t stored_tar_bytes = 0;  // of stored ones
  size_t files = 0;               // that have bytes in them
};
// corrupt_input where a piece is of a layer or a span that is not there. Pure.
Result<PackContents> pack_contents(const startup::PackHead& head, const IndexesByDiffId& indexes);

// Proves that each frame of the image's pack decodes to spans with the digests
// that the layers' indexes give, and that head and blob have theirs. What is
// wrong, one line each, goes to `differences`; how many pieces were decoded. 0 if
// there is no pack. Blocks; errors are for what could not be looked at.
Result<size_t> check_pack(registry::ImageSource& source, const PlatformImage& image,
                          std::vector<std::string>* differences);

}  // namespace pagein::convert
