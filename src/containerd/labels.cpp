#include "containerd/labels.h"

#include <map>
#include <set>

#include "oci/annotations.h"
#include "oci/media_types.h"

namespace pagein::containerd {

namespace {

bool fits(std::string_view key, std::string_view value) {
  return key.size() + value.size() <= kMaxLabelBytes;
}

bool is_config(std::string_view type) {
  return type == oci::media_type::kOciConfig || type == oci::media_type::kDockerConfig;
}
bool is_layer(std::string_view type) { return oci::parse_layer_type(type).known; }

// As many of the digests as the label takes.
std::string layer_list(std::span<const oci::Descriptor> layers) {
  std::string list;
  for (const oci::Descriptor& layer : layers) {
    const std::string item = (list.empty() ? "" : ",") + layer.digest.str();
    if (!fits(kImageLayers, list + item)) break;
    list += item;
  }
  return list;
}

}  // namespace

Labels layer_labels(const LayerLabelRequest& request) {
  const oci::Descriptor& layer = request.layers[request.layer];
  Labels labels;
  for (const auto& [key, value] : layer.annotations) {
    if (key.starts_with(oci::annotation::kSnapshotPrefix) && fits(key, value)) labels[key] = value;
  }
  // After the annotations: what we know counts more than what they claim.
  labels[kSnapshotRef] = request.chain_id.str();
  if (fits(kImageRef, request.image_ref)) labels[kImageRef] = request.image_ref;
  labels[kManifestDigest] = request.manifest_digest.str();
  labels[kLayerDigest] = layer.digest.str();
  labels[kImageLayers] = layer_list(request.layers.subspan(request.layer));
  return labels;
}

Labels gc_labels(std::span<const oci::Descriptor> children) {
  constexpr std::string_view kPrefix = "containerd.io/gc.ref.content.";
  Labels labels;
  std::map<std::string, size_t> counts;
  for (const oci::Descriptor& child : children) {
    std::string key(kPrefix);
    if (is_config(child.media_type)) {
      key += "config";
    } else if (oci::is_manifest(child.media_type)) {
      key += "m.";
    } else if (is_layer(child.media_type)) {
      key += "l.";
    }
    const size_t index = counts[key]++;
    if (index > 0 || key.back() == '.') key += std::to_string(index);
    labels[key] = child.digest.str();
  }
  return labels;
}

std::string gc_snapshot_key(std::string_view snapshotter) {
  return "containerd.io/gc.ref.snapshot." + std::string(snapshotter);
}

std::string source_key(std::string_view host) {
  if (const size_t colon = host.rfind(':'); colon != std::string_view::npos) {
    if (host.find(']', colon) == std::string_view::npos) host = host.substr(0, colon);
  }
  if (host.starts_with('[') && host.ends_with(']')) host = host.substr(1, host.size() - 2);
  return "containerd.io/distribution.source." + std::string(host);
}

std::string add_source(std::string_view key, std::string_view existing,
                       std::string_view repository) {
  std::set<std::string, std::less<>> repositories;
  while (!existing.empty()) {
    const size_t comma = std::min(existing.find(','), existing.size());
    if (comma > 0) repositories.emplace(existing.substr(0, comma));
    existing.remove_prefix(std::min(comma + 1, existing.size()));
  }
  repositories.emplace(repository);
  std::string joined;
  for (const std::string& name : repositories) joined += (joined.empty() ? "" : ",") + name;
  return fits(key, joined) ? joined : std::string();
}

std::string upload_ref(const oci::Descriptor& blob) {
  const std::string_view type = blob.media_type;
  const char* sort = oci::is_manifest(type) ? "manifest-"
                     : oci::is_index(type)  ? "index-"
                     : is_layer(type)       ? "layer-"
                     : is_config(type)      ? "config-"
                                            : "unknown-";
  return sort + blob.digest.str();
}

std::string extract_key(std::string_view unique, const oci::Digest& chain_id) {
  return "extract-" + std::string(unique) + " " + chain_id.str();
}

}  // namespace pagein::containerd
