#include "index/index_location.h"

#include <charconv>

#include "oci/annotations.h"

namespace pagein::index {
namespace {

// docs/formats/layer-index.md, "Limits".
constexpr uint64_t kMaxHeadSize = 256ULL << 20;
constexpr uint64_t kMaxIndexSize = 16ULL << 30;

std::optional<uint64_t> parse_size(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || text.empty()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<IndexLocation> parse_index_location(const oci::Descriptor& layer) {
  const auto digest = oci::Digest::parse(layer.annotation(oci::annotation::kIndexDigest));
  const auto head = oci::Digest::parse(layer.annotation(oci::annotation::kIndexHeadDigest));
  const auto size = parse_size(layer.annotation(oci::annotation::kIndexSize));
  const auto head_size = parse_size(layer.annotation(oci::annotation::kIndexHeadSize));
  if (!digest.ok() || !head.ok() || !size || !head_size) return std::nullopt;
  if (*head_size == 0 || *head_size > *size) return std::nullopt;
  if (*head_size > kMaxHeadSize || *size > kMaxIndexSize) return std::nullopt;
  return IndexLocation{*digest, *size, *head_size, *head};
}

void set_index_location(oci::Descriptor* layer, const IndexLocation& location) {
  auto set = [&](std::string_view key, std::string value) {
    layer->annotations[std::string(key)] = std::move(value);
  };
  set(oci::annotation::kIndexDigest, location.digest.str());
  set(oci::annotation::kIndexSize, std::to_string(location.size));
  set(oci::annotation::kIndexHeadSize, std::to_string(location.head_size));
  set(oci::annotation::kIndexHeadDigest, location.head_digest.str());
}

}  // namespace pagein::index
