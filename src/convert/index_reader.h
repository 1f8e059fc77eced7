// A layer's index read from wherever the accelerated image is.
#pragma once

#include <memory>

#include "base/result.h"
#include "index/index_location.h"
#include "index/layer_index.h"
#include "registry/blob_source.h"

namespace pagein::convert {

// The head, verified against its digest and parsed. Blocks.
Result<std::shared_ptr<const index::LayerIndex>> read_index_head(
    registry::BlobSource& source, const index::IndexLocation& location);

}  // namespace pagein::convert
