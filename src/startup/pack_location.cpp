#include "startup/pack_location.h"

#include <charconv>

#include "oci/annotations.h"
#include "startup/pack_format.h"

namespace pagein::startup {
namespace {

std::string_view find(const oci::Annotations& annotations, std::string_view key) {
  const auto it = annotations.find(std::string(key));
  return it == annotations.end() ? std::string_view() : std::string_view(it->second);
}

std::optional<uint64_t> parse_size(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<PackLocation> parse_pack_location(const oci::Annotations& of_manifest) {
  const auto digest = oci::Digest::parse(find(of_manifest, oci::annotation::kStartupDigest));
  const auto head = oci::Digest::parse(find(of_manifest, oci::annotation::kStartupHeadDigest));
  const auto size = parse_size(find(of_manifest, oci::annotation::kStartupSize));
  const auto head_size = parse_size(find(of_manifest, oci::annotation::kStartupHeadSize));
  if (!digest.ok() || !head.ok() || !size || !head_size) return std::nullopt;
  if (*head_size < sizeof(FixedPackHeader) || *head_size > *size) return std::nullopt;
  if (*head_size > kMaxPackHeadBytes || *size > kMaxPackBytes) return std::nullopt;
  return PackLocation{*digest, *size, *head_size, *head};
}

void set_pack_location(oci::Manifest* manifest, const PackLocation& location) {
  auto set = [&](std::string_view key, std::string value) {
    manifest->annotations[std::string(key)] = std::move(value);
  };
  set(oci::annotation::kStartupDigest, location.digest.str());
  set(oci::annotation::kStartupSize, std::to_string(location.size));
  set(oci::annotation::kStartupHeadSize, std::to_string(location.head_size));
  set(oci::annotation::kStartupHeadDigest, location.head_digest.str());
}

}  // namespace pagein::startup
