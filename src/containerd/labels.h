// Names and labels that containerd gives to what it pulls, computed as it
// does, so that images pulled by us are like its own. All functions are pure.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "containerd/types.h"

namespace pagein::containerd {

// A label's key and value together (containerd labels/validate.go).
inline constexpr size_t kMaxLabelBytes = 4096;

inline constexpr std::string_view kSnapshotRef = "containerd.io/snapshot.ref";
inline constexpr std::string_view kUncompressed = "containerd.io/uncompressed";
inline constexpr std::string_view kSnapshotPrefix = "containerd.io/snapshot/";
// pkg/snapshotters/annotations.go: "cri" in the name, but not only CRI's.
inline constexpr std::string_view kImageRef = "containerd.io/snapshot/cri.image-ref";
inline constexpr std::string_view kManifestDigest = "containerd.io/snapshot/cri.manifest-digest";
inline constexpr std::string_view kLayerDigest = "containerd.io/snapshot/cri.layer-digest";
inline constexpr std::string_view kImageLayers = "containerd.io/snapshot/cri.image-layers";

// The chain ID of each layer (OCI image-spec config.md, "Layer ChainID"):
// chain[0] = diff[0], chain[i] = sha256(chain[i-1] + " " + diff[i]).
std::vector<std::string> chain_ids(std::span<const std::string> diff_ids);

struct SnapshotLabelRequest {
  std::string image_ref;
  std::string manifest_digest;
  std::span<const Descriptor> layers;  // of the manifest, lowest first
  size_t layer = 0;                    // which of them
  std::string chain_id;
};
// What Prepare gets for a layer: the ref, the cri.* labels (the list of this
// and the following layers is cut where the label would be too long), and the
// layer's annotations under kSnapshotPrefix. An annotation that is too long
// for a label is left out.
Labels snapshot_labels(const SnapshotLabelRequest& request);

// The label that makes containerd's collector keep a child of a content blob.
// `index` counts the children of the same sort.
Labels gc_labels(std::span<const Descriptor> children);
// containerd.io/gc.ref.snapshot.NAME on the config blob keeps the snapshots.
std::string gc_snapshot_key(std::string_view snapshotter);

// containerd.io/distribution.source.HOST = repositories, sorted, without
// duplicates, `existing` included; empty if that would be too long.
std::string source_key(std::string_view host);
std::string add_source(std::string_view existing, std::string_view repository);

bool is_layer_type(std::string_view media_type);
bool is_config_type(std::string_view media_type);
bool is_manifest_type(std::string_view media_type);
bool is_index_type(std::string_view media_type);

// Names an upload as containerd does ("layer-sha256:…"), so that both resume
// each other's.
std::string upload_ref(const Descriptor& blob);

// "extract-<nanoseconds>-<random> <chain ID>": the key of a snapshot that is
// being unpacked.
std::string extract_key(std::string_view unique, std::string_view chain_id);

}  // namespace pagein::containerd
