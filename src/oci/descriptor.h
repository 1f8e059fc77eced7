// Descriptors and platforms (OCI image-spec v1.1 descriptor.md, image-index.md).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "oci/digest.h"

namespace pagein::oci {

using Annotations = std::map<std::string, std::string>;

// Architecture and variant are kept normalised as containerd does
// (x86_64 -> amd64, aarch64 -> arm64, arm64's variant v8 -> none, arm -> v7).
struct Platform {
  std::string os;
  std::string architecture;
  std::string variant;
  std::string os_version;
  std::vector<std::string> os_features;

  // "linux/amd64", "linux/arm/v7", "arm64" (os of this machine).
  static Result<Platform> parse(std::string_view text);
  static Platform host();  // what this process runs on
  std::string str() const;
  Platform normalized() const;
  // An artifact's platform, which clients skip.
  bool is_unknown() const { return os == "unknown" && architecture == "unknown"; }
  bool operator==(const Platform&) const = default;
};

// How well `candidate` serves `wanted`: 0 not at all, else the higher the
// better (the same variant beats an older one: arm/v7 runs arm/v6).
int match_platform(const Platform& wanted, const Platform& candidate);

// A value. `data` of the format is ignored (never trusted in place of a blob).
struct Descriptor {
  std::string media_type;
  Digest digest;
  uint64_t size = 0;  // bytes
  std::string artifact_type;
  Annotations annotations;
  std::vector<std::string> urls;
  std::optional<Platform> platform;

  // "" if there is none.
  std::string_view annotation(std::string_view name) const;
  bool operator==(const Descriptor&) const = default;
};

// The empty JSON object "{}" as a blob (OCI image-spec v1.1 manifest.md
// "Guidance for an Empty Descriptor").
Descriptor empty_descriptor();
inline constexpr std::string_view kEmptyBlob = "{}";

}  // namespace pagein::oci
