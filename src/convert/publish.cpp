#include "convert/publish.h"

#include "convert/layer_indexer.h"

#include <set>

#include "oci/annotations.h"
#include "oci/media_types.h"

namespace pagein::convert {
namespace {

namespace media = oci::media_type;

// On each indexed layer: with other settings the same layer is indexed anew.
constexpr std::string_view kSettings = "io.pagein.index.settings";
// On each re-encoded layer: whose tar it has.
constexpr std::string_view kBaseLayer = "io.pagein.layer.base";
// On the referrer of the base image.
constexpr std::string_view kAcceleratedDigest = "io.pagein.accelerated.digest";
constexpr std::string_view kAcceleratedTag = "io.pagein.accelerated.tag";

bool is_reencoded(const LayerReport& layer) { return layer.published.digest != layer.layer.digest; }

// The base's layer with an OCI media type over the same bytes, or the one made
// of it: of that nothing holds that annotations say of the base's bytes.
oci::Descriptor accelerated_layer(const oci::Descriptor& base, const LayerReport& report,
                                  const std::string& settings) {
  oci::Descriptor layer = is_reencoded(report) ? report.published : base;
  layer.media_type = oci::to_oci_media_type(layer.media_type);
  if (report.outcome == LayerOutcome::left) return layer;
  index::set_index_location(&layer, report.index);
  layer.annotations[std::string(kSettings)] = settings;
  if (is_reencoded(report)) layer.annotations[std::string(kBaseLayer)] = base.digest.str();
  return layer;
}

// The manifest of one platform: the base's config, its layers or those made of
// them, and the indexes' locations.
oci::Manifest accelerated_manifest(const PlatformImage& image, const PlatformReport& platform,
                                   const ConvertReport& report, const std::string& settings) {
  oci::Manifest manifest;
  manifest.config = image.manifest.config;
  manifest.config.media_type = oci::to_oci_media_type(manifest.config.media_type);
  manifest.annotations = image.manifest.annotations;
  for (const std::string_view key :
       {oci::annotation::kStartupDigest, oci::annotation::kStartupSize,
        oci::annotation::kStartupHeadSize, oci::annotation::kStartupHeadDigest,
        oci::annotation::kStartupSettings}) {
    manifest.annotations.erase(std::string(key));  // not the base's word
  }
  if (platform.startup.pack) {
    startup::set_pack_location(&manifest, *platform.startup.pack);
    manifest.annotations[std::string(oci::annotation::kStartupSettings)] =
        platform.startup.settings;
  }
  for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
    manifest.layers.push_back(
        accelerated_layer(image.manifest.layers[i], report.layers[platform.layers[i]], settings));
  }
  return manifest;
}

// Keeps the index blobs and the pack alive: a registry's garbage collector knows only what
// manifests name as layers.
oci::Manifest artifact_manifest(const oci::Descriptor& subject, const PlatformReport& platform,
                                const ConvertReport& report) {
  oci::Manifest artifact;
  artifact.artifact_type = media::kLayerIndexArtifact;
  artifact.config = oci::empty_descriptor();
  artifact.subject = subject;
  std::set<oci::Digest> seen;
  for (const size_t i : platform.layers) {
    const LayerReport& layer = report.layers[i];
    if (layer.outcome == LayerOutcome::left || !seen.insert(layer.index.digest).second) continue;
    oci::Descriptor blob;
    blob.media_type = media::kLayerIndex;
    blob.digest = layer.index.digest;
    blob.size = layer.index.size;
    blob.annotations[std::string(oci::annotation::kLayerDigest)] = layer.published.digest.str();
    artifact.layers.push_back(std::move(blob));
  }
  if (platform.startup.pack) {
    oci::Descriptor blob;
    blob.media_type = media::kStartupPack;
    blob.digest = platform.startup.pack->digest;
    blob.size = platform.startup.pack->size;
    artifact.layers.push_back(std::move(blob));
  }
  return artifact;
}

// The config, and the layers that stay what they are.
Status push_base_blobs(registry::ImageSource& source, registry::ImageDestination& destination,
                       const PlatformImage& image, const std::set<oci::Digest>& reencoded,
                       std::set<oci::Digest>* done) {
  if (done->insert(image.manifest.config.digest).second) {
    ASSIGN_OR_RETURN(
        const oci::Descriptor config,
        registry::put_blob(destination, image.config_bytes, image.manifest.config.media_type));
    if (config.digest != image.manifest.config.digest) {
      return Error(Code::internal, "the config blob changed on its way");
    }
  }
  for (const oci::Descriptor& layer : image.manifest.layers) {
    const oci::LayerType type = oci::parse_layer_type(layer.media_type);
    if ((type.known && type.foreign) || reencoded.contains(layer.digest)) continue;
    if (!done->insert(layer.digest).second) continue;
    RETURN_IF_ERROR(registry::copy_blob(source, destination, layer));
  }
  return {};
}

// A referrer must lie beside its subject.
bool same_repository(const registry::ImageSource& source, registry::ImageDestination& destination) {
  const auto from = source.repository();
  const auto to = destination.as_source()->repository();
  return from && to && from->name() == to->name();
}

Status publish_referrer(registry::ImageDestination& destination, const ConvertReport& report) {
  oci::Manifest referrer;
  referrer.artifact_type = media::kAcceleratedArtifact;
  referrer.config = oci::empty_descriptor();
  referrer.layers.push_back(oci::empty_descriptor());
  referrer.subject = report.base;
  referrer.subject->annotations.clear();
  referrer.subject->platform.reset();
  referrer.annotations[std::string(kAcceleratedDigest)] = report.accelerated.digest.str();
  referrer.annotations[std::string(kAcceleratedTag)] = destination.tag();
  ASSIGN_OR_RETURN(const oci::Descriptor put,
                   destination.put_referrer(oci::serialize(referrer), media::kOciManifest));
  static_cast<void>(put);
  return {};
}

}  // namespace

std::string index_settings(uint64_t spacing, uint32_t max_share) {
  std::string settings = "v1;spacing=" + std::to_string(spacing);
  if (max_share != kDefaultIndexShare) settings += ";share=" + std::to_string(max_share);
  return settings;
}

ConvertReport empty_report(const BaseImage& base, const LayerPlan& plan) {
  ConvertReport report;
  report.base = base.root;
  for (const LayerJob& job : plan.jobs) {
    LayerReport layer;
    layer.layer = job.layer;
    layer.published = job.layer;
    report.layers.push_back(std::move(layer));
  }
  for (size_t i = 0; i < base.images.size(); ++i) {
    report.platforms.push_back({base.images[i].platform, {}, plan.platforms[i]});
  }
  return report;
}

std::vector<oci::Descriptor> layers_of(const std::vector<LayerJob>& jobs) {
  std::vector<oci::Descriptor> layers;
  for (const LayerJob& job : jobs) layers.push_back(job.layer);
  return layers;
}

Result<index::IndexLocation> put_index(registry::ImageDestination& destination,
                                       const index::EncodedIndex& index) {
  std::string blob;
  blob.reserve(index.head.size() + index.checkpoints.size());
  blob += as_text(index.head);
  blob += as_text(index.checkpoints);
  ASSIGN_OR_RETURN(const oci::Descriptor descriptor,
                   registry::put_blob(destination, blob, media::kLayerIndex));
  return index::IndexLocation{descriptor.digest, descriptor.size, index.head.size(),
                              oci::Digest::of(index.head)};
}

std::map<oci::Digest, index::IndexLocation> find_published_indexes(
    registry::ImageDestination& destination, const std::string& settings) {
  std::map<oci::Digest, index::IndexLocation> known;
  const auto source = destination.as_source();
  const auto root = source->resolve(destination.tag());
  if (!root.ok() || !oci::is_index(root->media_type)) return known;
  const auto bytes = source->read_manifest(*root);
  if (!bytes.ok()) return known;
  const auto index = oci::parse_index(as_bytes(*bytes), root->media_type);
  if (!index.ok()) return known;
  for (const oci::Descriptor& entry : index->manifests) {
    if (!oci::is_manifest(entry.media_type)) continue;
    const auto manifest_bytes = source->read_manifest(entry);
    if (!manifest_bytes.ok()) continue;
    const auto manifest = oci::parse_manifest(as_bytes(*manifest_bytes), entry.media_type);
    if (!manifest.ok()) continue;
    for (const oci::Descriptor& layer : manifest->layers) {
      const auto location = index::parse_index_location(layer);
      if (!location || layer.annotation(kSettings) != settings) continue;
      oci::Descriptor blob;
      blob.media_type = media::kLayerIndex;
      blob.digest = location->digest;
      blob.size = location->size;
      const auto there = destination.has_blob(blob);
      if (there.ok() && *there) known[layer.digest] = *location;
    }
  }
  return known;
}

Status publish(registry::ImageSource& source, registry::ImageDestination& destination,
               const BaseImage& base, const PublishOptions& options, ConvertReport* report) {
  oci::ImageIndex index;
  std::set<oci::Digest> done;
  std::set<oci::Digest> reencoded;
  for (const LayerReport& layer : report->layers) {
    if (is_reencoded(layer)) reencoded.insert(layer.layer.digest);
  }
  for (size_t i = 0; i < base.images.size(); ++i) {
    const PlatformImage& image = base.images[i];
    PlatformReport& platform = report->platforms[i];
    RETURN_IF_ERROR(push_base_blobs(source, destination, image, reencoded, &done));
    const std::string manifest =
        oci::serialize(accelerated_manifest(image, platform, *report, options.settings));
    ASSIGN_OR_RETURN(oci::Descriptor pushed,
                     destination.put_manifest(manifest, media::kOciManifest, ""));
    platform.manifest = pushed.digest;
    const oci::Manifest artifact = artifact_manifest(pushed, platform, *report);
    pushed.platform = image.platform;
    index.manifests.push_back(std::move(pushed));
    if (artifact.layers.empty()) continue;
    ASSIGN_OR_RETURN(const oci::Descriptor config,
                     registry::put_blob(destination, oci::kEmptyBlob, media::kEmpty));
    static_cast<void>(config);
    ASSIGN_OR_RETURN(oci::Descriptor artifact_pushed,
                     destination.put_manifest(oci::serialize(artifact), media::kOciManifest, ""));
    artifact_pushed.artifact_type = media::kLayerIndexArtifact;
    oci::Platform unknown;
    unknown.os = unknown.architecture = "unknown";
    artifact_pushed.platform = unknown;
    index.manifests.push_back(std::move(artifact_pushed));
  }
  ASSIGN_OR_RETURN(
      report->accelerated,
      destination.put_manifest(oci::serialize(index), media::kOciIndex, destination.tag()));
  if (options.referrer == Referrer::publish && same_repository(source, destination)) {
    RETURN_IF_ERROR(publish_referrer(destination, *report));
  }
  return {};
}

}  // namespace pagein::convert
