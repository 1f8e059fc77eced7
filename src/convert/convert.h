// An image becomes an accelerated image (DESIGN "The accelerated image";
// docs/formats/accelerated-image.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "index/index_location.h"
#include "oci/descriptor.h"
#include "registry/image_store.h"

namespace pagein::convert {

// Told about each distinct layer as it goes; from several threads, one call at
// a time for one layer. Must not block for long.
class ConvertObserver {
 public:
  virtual ~ConvertObserver() = default;
  virtual void on_layers(const std::vector<oci::Descriptor>& layers) = 0;
  virtual void on_progress(size_t layer, uint64_t bytes) = 0;
  // `outcome` for people: "indexed", "already indexed", or why it was left.
  virtual void on_layer_done(size_t layer, const std::string& outcome) = 0;
};

struct ConvertOptions {
  std::vector<oci::Platform> platforms;  // empty: all
  uint64_t spacing = 256 << 10;          // bytes of tar between checkpoints
  size_t parallel_layers = 2;
  std::filesystem::path cache;           // of indexes; empty: none
  // Whether the base image gets a referrer that names the accelerated one.
  enum class Referrer { publish, skip } referrer = Referrer::publish;
  const std::atomic<bool>* stop = nullptr;  // set: ends soon, with `cancelled`
};

enum class LayerOutcome {
  indexed,   // read and indexed now
  reused,    // an index made before serves
  left,      // cannot be indexed: stays an ordinary layer
};

struct LayerReport {
  oci::Descriptor layer;  // as in the base image
  LayerOutcome outcome = LayerOutcome::left;
  std::string reason;     // why it was left
  index::IndexLocation index;
  uint64_t tar_size = 0;  // 0 where not known
  uint64_t spans = 0;
  uint64_t files = 0;
};

struct PlatformReport {
  oci::Platform platform;
  oci::Digest manifest;      // of the accelerated image
  std::vector<size_t> layers;  // into ConvertReport::layers, lowest first
};

struct ConvertReport {
  oci::Descriptor base;         // what the source named
  oci::Descriptor accelerated;  // the image index that was made
  std::vector<PlatformReport> platforms;
  std::vector<LayerReport> layers;  // distinct ones
};

// Nothing appears under the destination's tag before all of it is there. What
// was pushed before a failure is found again by the next try. Blocks.
//   corrupt_input: a layer is not what its digest, format or diffID say.
//   invalid_argument: no tag to write to; a platform that the image lacks.
Result<ConvertReport> convert_to_index_only(registry::ImageSource& source,
                                            registry::ImageDestination& destination,
                                            const ConvertOptions& options,
                                            ConvertObserver& observer);

}  // namespace pagein::convert
