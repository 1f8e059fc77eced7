// An image with all chosen platforms, as conversion, inspection and checking read it.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/image_config.h"
#include "oci/manifest.h"
#include "registry/image_store.h"

namespace pagein::convert {

struct PlatformImage {
  oci::Descriptor descriptor;  // of the manifest
  oci::Platform platform;
  oci::Manifest manifest;
  std::string config_bytes;
  oci::ImageConfig config;
};

struct BaseImage {
  oci::Descriptor root;  // what the source names: a manifest, or an index
  std::vector<PlatformImage> images;
};

// Artifact manifests in an index (attestations, our own) are passed over.
// Blocks. invalid_argument names what there is where a wanted platform is
// missing; corrupt_input where manifest and config do not fit together.
Result<BaseImage> load_any_image(registry::ImageSource& source,
                                 const std::vector<oci::Platform>& platforms);
// The same; failed_precondition where the image is an accelerated one already.
Result<BaseImage> load_base_image(registry::ImageSource& source,
                                  const std::vector<oci::Platform>& platforms);

}  // namespace pagein::convert
