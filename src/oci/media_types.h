// Media types of manifests, configs, layers and our own artifacts, in one place.
// Sources: OCI image-spec v1.1 media-types.md; Docker distribution
// "Image Manifest Version 2, Schema 2".
#pragma once

#include <string_view>

namespace pagein::oci {

namespace media_type {
// Manifests and indexes.
inline constexpr std::string_view kOciManifest = "application/vnd.oci.image.manifest.v1+json";
inline constexpr std::string_view kOciIndex = "application/vnd.oci.image.index.v1+json";
inline constexpr std::string_view kDockerManifest =
    "application/vnd.docker.distribution.manifest.v2+json";
inline constexpr std::string_view kDockerManifestList =
    "application/vnd.docker.distribution.manifest.list.v2+json";

// Configs.
inline constexpr std::string_view kOciConfig = "application/vnd.oci.image.config.v1+json";
inline constexpr std::string_view kDockerConfig = "application/vnd.docker.container.image.v1+json";
inline constexpr std::string_view kEmpty = "application/vnd.oci.empty.v1+json";

// Layers.
inline constexpr std::string_view kOciLayer = "application/vnd.oci.image.layer.v1.tar";
inline constexpr std::string_view kOciLayerGzip = "application/vnd.oci.image.layer.v1.tar+gzip";
inline constexpr std::string_view kOciLayerZstd = "application/vnd.oci.image.layer.v1.tar+zstd";
inline constexpr std::string_view kOciLayerForeign =
    "application/vnd.oci.image.layer.nondistributable.v1.tar";
inline constexpr std::string_view kOciLayerForeignGzip =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
inline constexpr std::string_view kOciLayerForeignZstd =
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd";
inline constexpr std::string_view kDockerLayer = "application/vnd.docker.image.rootfs.diff.tar";
inline constexpr std::string_view kDockerLayerGzip =
    "application/vnd.docker.image.rootfs.diff.tar.gzip";
// Written by BuildKit and containerd, though Docker never specified it.
inline constexpr std::string_view kDockerLayerZstd =
    "application/vnd.docker.image.rootfs.diff.tar.zstd";
inline constexpr std::string_view kDockerLayerForeign =
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";

// Ours. Names in Artifact are artifact types of manifests, the rest blobs.
inline constexpr std::string_view kLayerIndexArtifact =
    "application/vnd.pagein.layer.indexes.v1";  // index blobs and the startup pack of an image
inline constexpr std::string_view kAcceleratedArtifact =
    "application/vnd.pagein.accelerated.v1";  // names the accelerated image of its subject
inline constexpr std::string_view kStartupTraceArtifact =
    "application/vnd.pagein.startup.trace.v1";  // what a start of its subject reads
inline constexpr std::string_view kSignatureArtifact = "application/vnd.pagein.signature.v1";
inline constexpr std::string_view kLayerIndex = "application/vnd.pagein.layer.index.v1";
inline constexpr std::string_view kStartupPack = "application/vnd.pagein.startup.pack.v1";
inline constexpr std::string_view kStartupTrace = "application/vnd.pagein.startup.trace.v1+json";
}  // namespace media_type

enum class LayerCompression { none, gzip, zstd };

// What a layer's media type says about it. `known` is false for anything that
// is not a tar layer of the types above; `compression` then means nothing.
struct LayerType {
  bool known = false;
  bool foreign = false;  // its bytes come from elsewhere (`urls`), not to be pushed
  LayerCompression compression = LayerCompression::none;
};
LayerType parse_layer_type(std::string_view media_type);

// The OCI type for a tar layer of that compression.
std::string_view layer_media_type(LayerCompression compression);
// The OCI twin of a Docker manifest, index, config or layer type; others
// (OCI ones too) come back as they are.
std::string_view to_oci_media_type(std::string_view media_type);

bool is_manifest(std::string_view media_type);  // one image or artifact
bool is_index(std::string_view media_type);     // OCI index or Docker manifest list

}  // namespace pagein::oci
