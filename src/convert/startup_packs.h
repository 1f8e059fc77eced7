// Gives each platform's image of a conversion its startup pack, before the
// manifests are written.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "convert/base_image.h"
#include "convert/convert.h"
#include "index/layer_index.h"

namespace pagein::convert {

// An accelerated image that is being made.
struct PackTarget {
  registry::ImageDestination* destination = nullptr;  // has the indexes
  std::shared_ptr<registry::BlobSource> layers;       // has the layers' blobs
  // By the report's layers; nullptr: to be read from the destination. Layers that
  // were left have none.
  const std::vector<std::shared_ptr<const index::LayerIndex>>* indexes = nullptr;
  ConvertReport* report = nullptr;  // startup of each platform is set
};

struct PackOptions {
  const StartupOptions* startup = nullptr;
  const std::atomic<bool>* stop = nullptr;
};

// A start works without a pack: what keeps it from being made is a note in the
// report, not an error. Errors: cancelled, and those of pushing. Blocks.
Status add_startup_packs(registry::ImageSource& source, const BaseImage& base,
                         const std::vector<PackTarget>& targets, const PackOptions& options);

}  // namespace pagein::convert
