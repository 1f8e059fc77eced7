// What a conversion would read, make and take, without writing anything.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "codec/checkpoint.h"
#include "oci/descriptor.h"
#include "registry/image_store.h"

namespace pagein::convert {

struct EstimateTarget {
  codec::Encoding encoding = codec::Encoding::gzip;   // full mode
  registry::ImageDestination* destination = nullptr;  // not owned; read only
};

struct EstimateOptions {
  std::vector<oci::Platform> platforms;  // empty: all
  uint64_t spacing = 256 << 10;
  uint32_t max_index_share = 500;  // as in ConvertOptions
  enum class Mode { index_only, full } mode = Mode::index_only;
  std::filesystem::path cache;  // of indexes; empty: none
};

struct LayerEstimate {
  oci::Descriptor layer;
  enum class State {
    ready,  // its index is published or in the cache
    to_do,  // would be read, and indexed or compressed anew
    left,   // cannot be converted
  } state = State::to_do;
  std::string reason;      // why it would be left
  uint64_t tar_bytes = 0;  // known where it is ready from the cache, else from a sample
  uint64_t index_bytes = 0;
  uint64_t head_bytes = 0;  // of the index: what a node reads before a start
};

struct ImageEstimate {
  uint64_t layer_bytes = 0;  // of the image's layers as they would be
  uint64_t write_bytes = 0;  // what the destination lacks: layers and indexes
};

struct Estimate {
  oci::Descriptor base;
  std::vector<LayerEstimate> layers;  // distinct ones
  uint64_t base_bytes = 0;
  uint64_t read_bytes = 0;  // of the base image
  double cpu_seconds = 0;   // on the machine of docs/full-mode.md
  // What a node has to read before the container starts; else all of base_bytes.
  uint64_t start_bytes = 0;
  std::vector<ImageEstimate> images;  // per target
};

// Reads manifests, what the destination has, and the first MiB of each layer
// that is to be done. Sizes are estimates to within some tenths: what the rest of
// a layer holds nobody knows. Blocks. Errors as of a conversion.
Result<Estimate> estimate_conversion(registry::ImageSource& source,
                                     const std::vector<EstimateTarget>& targets,
                                     const EstimateOptions& options);

}  // namespace pagein::convert
