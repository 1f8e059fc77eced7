// An image becomes an accelerated image (DESIGN "The accelerated image";
// docs/formats/accelerated-image.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"
#include "codec/checkpoint.h"
#include "convert/startup_options.h"
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
  // `outcome` for people: "indexed", "re-encoded", "already indexed", or why it was left.
  virtual void on_layer_done(size_t layer, const std::string& outcome) = 0;
};

enum class Referrer { publish, skip };

struct ConvertOptions {
  std::vector<oci::Platform> platforms;  // empty: all
  uint64_t spacing = 256 << 10;          // bytes of tar between checkpoints
  // Layers of long zstd frames: what an index may take, in ten-thousandths of the
  // layer; beyond that, the layer is left as it is.
  uint32_t max_index_share = 500;
  size_t parallel_layers = 2;
  std::filesystem::path cache;  // of indexes; empty: none
  // Whether the base image gets a referrer that names the accelerated one.
  Referrer referrer = Referrer::publish;
  StartupOptions startup;
  const std::atomic<bool>* stop = nullptr;  // set: ends soon, with `cancelled`
};

enum class LayerOutcome {
  indexed,  // read and indexed (full mode: re-encoded) now
  reused,   // an index made before serves
  left,     // cannot be indexed: stays an ordinary layer
};

struct LayerReport {
  oci::Descriptor layer;  // as in the base image
  LayerOutcome outcome = LayerOutcome::left;
  std::string reason;         // why it was left
  oci::Descriptor published;  // the blob in the accelerated image; index-only: the same
  index::IndexLocation index;
  uint64_t tar_size = 0;  // 0 where not known
  uint64_t spans = 0;
  uint64_t files = 0;
};

struct PlatformReport {
  oci::Platform platform;
  oci::Digest manifest;        // of the accelerated image
  std::vector<size_t> layers;  // into ConvertReport::layers, lowest first
  StartupReport startup;
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

// Full mode: every layer is re-encoded so that it consists of chunks which can
// be read alone, once for each target, from one pass over the base's.
struct FullTarget {
  codec::Encoding encoding = codec::Encoding::gzip;   // or zstd
  registry::ImageDestination* destination = nullptr;  // not owned
};

struct FullOptions {
  std::vector<oci::Platform> platforms;  // empty: all
  uint64_t chunk = 256 << 10;            // wanted bytes of tar in a chunk
  size_t parallel_layers = 2;
  size_t threads = 0;  // that compress; 0: as many as there are CPUs
  // Of what was made: a layer is not made again where the destination still has
  // the blob that this cache says it gave before. Empty: none.
  std::filesystem::path cache;
  Referrer referrer = Referrer::publish;
  StartupOptions startup;  // of both images, whose packs are mostly the same blob
  const std::atomic<bool>* stop = nullptr;
};

// One report for each target, in their order. Tags change after all of an
// image is there, one after the other. Layers that cannot be re-encoded are
// kept as they are. Errors as above.
Result<std::vector<ConvertReport>> convert_to_full(registry::ImageSource& source,
                                                   const std::vector<FullTarget>& targets,
                                                   const FullOptions& options,
                                                   ConvertObserver& observer);

}  // namespace pagein::convert
