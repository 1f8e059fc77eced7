// One image as this node verified it: from its name in a registry down to the
// index heads of its layers.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "index/index_location.h"
#include "oci/descriptor.h"
#include "oci/digest.h"
#include "oci/image_config.h"
#include "oci/manifest.h"
#include "oci/reference.h"
#include "registry/image_store.h"
#include "startup/pack_location.h"

namespace pagein::node {

struct ImageLayer {
  oci::Descriptor descriptor;  // of the layer blob
  oci::Digest diff_id;
  oci::Digest chain_id;
  // Nothing where it has none.
  std::optional<index::IndexLocation> index;
};

// Immutable.
struct Image {
  std::string reference;        // as it was asked for
  oci::Digest manifest_digest;  // of this platform's manifest
  std::string manifest_bytes;
  oci::ImageConfig config;
  std::vector<ImageLayer> layers;  // lowest first
  // What its start reads, as a hint; nothing where it names no pack.
  std::optional<startup::PackLocation> startup_pack;
};

// Loads what `reference` names in `source` and checks that `manifest_digest`
// is it, or is one of the index that it names: labels that come with a
// snapshot can be forged by whoever wrote the manifest, so nothing is fetched
// for an image under another image's name. Where `manifest_digest` is empty the
// host's platform is chosen. Blocks on the network.
// failed_precondition: the name does not lead to that manifest (any more).
Result<std::shared_ptr<const Image>> load_image(registry::ImageSource& source,
                                                const std::string& reference,
                                                const oci::Digest& manifest_digest);

// The heads of several layers' indexes, read by range side by side and verified;
// in the order of `wanted`. Blocks.
std::vector<Result<Bytes>> load_index_heads(registry::BlobSource& source,
                                            const std::vector<index::IndexLocation>& wanted,
                                            net::Clock::time_point deadline);

}  // namespace pagein::node
