// Image manifests and image indexes, OCI's and Docker's schema 2 (OCI
// image-spec v1.1 manifest.md, image-index.md; Docker Image Manifest V2.2).
// Pure: bytes in, values out. Thread-safe (no state).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "oci/descriptor.h"

namespace pagein::oci {

// Checked before anything is built from hostile bytes.
inline constexpr size_t kMaxManifestSize = 4 << 20;  // as containerd has it
inline constexpr size_t kMaxConfigSize = 8 << 20;
inline constexpr size_t kMaxLayers = 4096;
inline constexpr size_t kMaxIndexEntries = 4096;
inline constexpr size_t kMaxAnnotations = 1024;         // of one object
inline constexpr size_t kMaxAnnotationSize = 64 << 10;  // name and value, bytes
inline constexpr uint64_t kMaxBlobSize = 1ULL << 46;    // 64 TiB: offsets stay far from overflow

struct Manifest {
  std::string media_type = "application/vnd.oci.image.manifest.v1+json";
  std::string artifact_type;
  Descriptor config;
  std::vector<Descriptor> layers;
  std::optional<Descriptor> subject;
  Annotations annotations;

  // artifact_type, or the config's media type where that is not given
  // (distribution-spec v1.1 "Listing Referrers").
  std::string_view effective_artifact_type() const;
};

struct ImageIndex {
  std::string media_type = "application/vnd.oci.image.index.v1+json";
  std::string artifact_type;
  std::vector<Descriptor> manifests;
  std::optional<Descriptor> subject;
  Annotations annotations;
};

// `media_type` is what the transport said; empty: taken from the document. A
// document that is both (CVE-2021-41190: "manifests" beside "layers") or says
// another type than the transport is refused. corrupt_input: broken;
// unsupported: schema 1 or an unknown type.
Result<Manifest> parse_manifest(ByteView json, std::string_view media_type = {});
Result<ImageIndex> parse_index(ByteView json, std::string_view media_type = {});
// The type that a document states, or that its fields imply.
Result<std::string> detect_manifest_type(ByteView json);

// Compact JSON, keys in the order of the specification, annotations sorted:
// the same value gives the same bytes.
std::string serialize(const Manifest& manifest);
std::string serialize(const ImageIndex& index);

// The best manifest for `wanted` among entries that are images (artifacts,
// whose platform is unknown/unknown, are passed over). Entries without a
// platform serve only if nothing else does. nullptr: none.
const Descriptor* select_platform(const ImageIndex& index, const Platform& wanted);

}  // namespace pagein::oci
