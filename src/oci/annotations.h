// Names of annotations that we read and write, in one place.
#pragma once

#include <string_view>

namespace pagein::oci::annotation {

// containerd hands layer annotations under this prefix to snapshotters, as
// labels of Prepare (a label's name and value may have 4096 bytes together).
inline constexpr std::string_view kSnapshotPrefix = "containerd.io/snapshot/";

// On a layer's descriptor in an accelerated image: where its layer index is.
// The head is everything before the checkpoint payloads; its digest is what
// lets a node verify a head that it read by range.
inline constexpr std::string_view kIndexDigest = "containerd.io/snapshot/pagein.index.digest";
inline constexpr std::string_view kIndexSize = "containerd.io/snapshot/pagein.index.size";
inline constexpr std::string_view kIndexHeadSize = "containerd.io/snapshot/pagein.index.head-size";
inline constexpr std::string_view kIndexHeadDigest =
    "containerd.io/snapshot/pagein.index.head-digest";

// On the manifest of an accelerated image: where its startup pack is. The node
// reads the manifest itself, so no layer needs them.
inline constexpr std::string_view kStartupDigest = "io.pagein.startup.digest";
inline constexpr std::string_view kStartupSize = "io.pagein.startup.size";
inline constexpr std::string_view kStartupHeadSize = "io.pagein.startup.head-size";
inline constexpr std::string_view kStartupHeadDigest = "io.pagein.startup.head-digest";
// What it was made of; for people, and for another conversion to compare.
inline constexpr std::string_view kStartupSettings = "io.pagein.startup.settings";

// On an index blob's descriptor in the artifact manifest: whose index it is.
inline constexpr std::string_view kLayerDigest = "io.pagein.layer.digest";
inline constexpr std::string_view kLayerDiffId = "io.pagein.layer.diff-id";

// OCI image-spec v1.1, annotations.md and image-layout.md.
inline constexpr std::string_view kRefName = "org.opencontainers.image.ref.name";
inline constexpr std::string_view kCreated = "org.opencontainers.image.created";
// Written by containerd's exports: the full reference.
inline constexpr std::string_view kContainerdImageName = "io.containerd.image.name";
// BuildKit: keeps clients from showing an artifact manifest as a platform.
inline constexpr std::string_view kDockerReferenceType = "vnd.docker.reference.type";
inline constexpr std::string_view kDockerReferenceDigest = "vnd.docker.reference.digest";

}  // namespace pagein::oci::annotation
