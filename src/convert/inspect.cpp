#include "convert/inspect.h"

#include "convert/base_image.h"
#include "convert/index_reader.h"
#include "oci/annotations.h"

namespace pagein::convert {
namespace {

std::optional<InspectedPack> inspect_pack(registry::BlobSource& blobs,
                                          const oci::Manifest& manifest,
                                          const IndexesByDiffId& indexes) {
  const auto location = startup::parse_pack_location(manifest.annotations);
  if (!location) return std::nullopt;
  InspectedPack pack{*location, {}, {}, {}};
  const auto settings = manifest.annotations.find(std::string(oci::annotation::kStartupSettings));
  if (settings != manifest.annotations.end()) pack.settings = settings->second;
  const auto head = read_pack_head(blobs, *location);
  if (!head.ok()) {
    pack.problem = head.error().message;
    return pack;
  }
  auto contents = pack_contents(*head, indexes);
  if (contents.ok()) pack.contents = *contents;
  else pack.problem = contents.error().message;
  return pack;
}

}  // namespace

Result<InspectReport> inspect_image(registry::ImageSource& source,
                                    const std::vector<oci::Platform>& platforms) {
  ASSIGN_OR_RETURN(const BaseImage loaded, load_any_image(source, platforms));
  InspectReport report;
  report.root = loaded.root;
  const auto blobs = source.blobs();
  for (const PlatformImage& image : loaded.images) {
    InspectedImage inspected;
    inspected.platform = image.platform;
    inspected.manifest = image.descriptor.digest;
    inspected.config = image.manifest.config.digest;
    IndexesByDiffId indexes;
    for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
      InspectedLayer layer;
      layer.descriptor = image.manifest.layers[i];
      layer.diff_id = image.config.diff_ids[i];
      layer.index = index::parse_index_location(layer.descriptor);
      if (layer.index) {
        const auto head = read_index_head(*blobs, *layer.index);
        if (head.ok()) {
          layer.tar_size = (*head)->tar_size;
          layer.files = (*head)->files.size();
          layer.spans = (*head)->spans.size();
          if ((*head)->diff_id != layer.diff_id) layer.problem = "it is the index of another layer";
          else indexes.emplace(layer.diff_id, *head);
        } else {
          layer.problem = head.error().message;
        }
      }
      inspected.layers.push_back(std::move(layer));
    }
    inspected.pack = inspect_pack(*blobs, image.manifest, indexes);
    report.images.push_back(std::move(inspected));
  }
  return report;
}

}  // namespace pagein::convert
