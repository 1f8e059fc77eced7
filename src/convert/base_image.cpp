#include "convert/base_image.h"

#include <algorithm>

#include "index/index_location.h"
#include "oci/media_types.h"

namespace pagein::convert {
namespace {

Result<PlatformImage> load_platform(registry::ImageSource& source,
                                    const oci::Descriptor& descriptor) {
  PlatformImage image;
  image.descriptor = descriptor;
  ASSIGN_OR_RETURN(const std::string bytes, source.read_manifest(descriptor));
  ASSIGN_OR_RETURN(image.manifest, oci::parse_manifest(as_bytes(bytes), descriptor.media_type));
  ASSIGN_OR_RETURN(image.config_bytes,
                   source.read_blob(image.manifest.config, oci::kMaxConfigSize));
  ASSIGN_OR_RETURN(image.config, oci::parse_image_config(as_bytes(image.config_bytes)));
  image.platform = descriptor.platform.value_or(image.config.platform);
  if (image.config.diff_ids.size() != image.manifest.layers.size()) {
    return Error(Code::corrupt_input, "manifest " + descriptor.digest.str() + " has " +
                                          std::to_string(image.manifest.layers.size()) +
                                          " layers, its config names " +
                                          std::to_string(image.config.diff_ids.size()));
  }
  return image;
}

}  // namespace

Result<BaseImage> load_any_image(registry::ImageSource& source,
                                 const std::vector<oci::Platform>& platforms) {
  BaseImage base;
  ASSIGN_OR_RETURN(base.root, source.resolve());
  std::vector<oci::Descriptor> manifests;
  if (oci::is_index(base.root.media_type)) {
    ASSIGN_OR_RETURN(const std::string bytes, source.read_manifest(base.root));
    ASSIGN_OR_RETURN(const oci::ImageIndex index,
                     oci::parse_index(as_bytes(bytes), base.root.media_type));
    for (const oci::Descriptor& entry : index.manifests) {
      if (!oci::is_manifest(entry.media_type)) continue;
      if (entry.platform && entry.platform->is_unknown()) continue;
      manifests.push_back(entry);
    }
  } else {
    manifests.push_back(base.root);
  }
  std::string available;
  for (const oci::Descriptor& descriptor : manifests) {
    ASSIGN_OR_RETURN(PlatformImage image, load_platform(source, descriptor));
    available += (available.empty() ? "" : ", ") + image.platform.str();
    const bool wanted =
        platforms.empty() || std::any_of(platforms.begin(), platforms.end(), [&](const auto& p) {
          return oci::match_platform(p, image.platform) > 0;
        });
    if (wanted) base.images.push_back(std::move(image));
  }
  for (const oci::Platform& platform : platforms) {
    if (std::none_of(base.images.begin(), base.images.end(), [&](const PlatformImage& image) {
          return oci::match_platform(platform, image.platform) > 0;
        })) {
      return Error(Code::invalid_argument, source.describe() + " has no image for " +
                                               platform.str() + "; it has: " + available);
    }
  }
  if (base.images.empty()) {
    return Error(Code::invalid_argument, source.describe() + " holds no image");
  }
  return base;
}

Result<BaseImage> load_base_image(registry::ImageSource& source,
                                  const std::vector<oci::Platform>& platforms) {
  ASSIGN_OR_RETURN(BaseImage base, load_any_image(source, platforms));
  for (const PlatformImage& image : base.images) {
    for (const oci::Descriptor& layer : image.manifest.layers) {
      if (!index::parse_index_location(layer)) continue;
      return Error(Code::failed_precondition,
                   "the image is an accelerated image already; convert its base image instead");
    }
  }
  return base;
}

}  // namespace pagein::convert
