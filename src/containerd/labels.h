// Names and labels that containerd gives to what it pulls, computed as it
// does, so that images pulled by us are like its own. All functions are pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "containerd/types.h"

namespace pagein::containerd {

// A label's key and value together (containerd labels/validate.go).
inline constexpr size_t kMaxLabelBytes = 4096;

inline constexpr char kSnapshotRef[] = "containerd.io/snapshot.ref";
inline constexpr char kUncompressed[] = "containerd.io/uncompressed";
// containerd pkg/snapshotters/annotations.go: "cri" in the name, but not only
// for CRI.
inline constexpr char kImageRef[] = "containerd.io/snapshot/cri.image-ref";
inline constexpr char kManifestDigest[] = "containerd.io/snapshot/cri.manifest-digest";
inline constexpr char kLayerDigest[] = "containerd.io/snapshot/cri.layer-digest";
inline constexpr char kImageLayers[] = "containerd.io/snapshot/cri.image-layers";

struct LayerLabelRequest {
  std::string image_ref;
  oci::Digest manifest_digest;
  std::span<const oci::Descriptor> layers;  // of the manifest, lowest first
  size_t layer = 0;                         // which of them
  oci::Digest chain_id;
};
// What Prepare and Commit get for a layer: the ref, the cri.* labels (the list
// of this and the following layers is cut where the label would be too long),
// and the layer's annotations under oci::annotation::kSnapshotPrefix. One that
// is too long for a label is left out.
Labels layer_labels(const LayerLabelRequest& request);

// The labels that make containerd's collector keep the children of a manifest
// or index (containerd images/mediatypes.go, ChildGCLabels).
Labels gc_labels(std::span<const oci::Descriptor> children);
// On the config blob: keeps the image's snapshots.
std::string gc_snapshot_key(std::string_view snapshotter);

// containerd.io/distribution.source.HOST (without port): the repositories that
// the blob came from, sorted, without duplicates. add_source: empty if that
// would be too long for a label.
std::string source_key(std::string_view host);
std::string add_source(std::string_view key, std::string_view existing,
                       std::string_view repository);

// Names an upload as containerd does ("layer-sha256:…"), so that each goes on
// with the other's.
std::string upload_ref(const oci::Descriptor& blob);

// The key of a snapshot that is being unpacked.
std::string extract_key(std::string_view unique, const oci::Digest& chain_id);

}  // namespace pagein::containerd
