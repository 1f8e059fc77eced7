// What an image looks like to Pagein: layers, indexes, sizes.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "convert/pack_reader.h"
#include "index/index_location.h"
#include "registry/image_store.h"

namespace pagein::convert {

struct InspectedLayer {
  oci::Descriptor descriptor;
  oci::Digest diff_id;
  std::optional<index::IndexLocation> index;
  // From the index's head, where there is one that could be read.
  uint64_t tar_size = 0;
  size_t files = 0;
  size_t spans = 0;
  std::string problem;  // why the index cannot be used
};

struct InspectedPack {
  startup::PackLocation location;
  std::string settings;
  PackContents contents;
  std::string problem;  // why it cannot be used
};

struct InspectedImage {
  oci::Platform platform;
  oci::Digest manifest;
  oci::Digest config;
  std::vector<InspectedLayer> layers;  // lowest first
  std::optional<InspectedPack> pack;
};

struct InspectReport {
  oci::Descriptor root;
  std::vector<InspectedImage> images;
};

// Blocks; reads manifests, configs and the heads of indexes and packs, no layer.
Result<InspectReport> inspect_image(registry::ImageSource& source,
                                    const std::vector<oci::Platform>& platforms);

}  // namespace pagein::convert
