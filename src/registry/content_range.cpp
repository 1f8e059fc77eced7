#include "registry/content_range.h"

#include <charconv>

namespace pagein::registry {

namespace {

// Takes digits off the front; nullopt if there are none or too many.
std::optional<uint64_t> take_number(std::string_view* text) {
  uint64_t value = 0;
  const char* end = text->data() + text->size();
  const auto [next, error] = std::from_chars(text->data(), end, value);
  if (error != std::errc()) return std::nullopt;
  text->remove_prefix(static_cast<size_t>(next - text->data()));
  return value;
}

bool take(std::string_view* text, std::string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}

}  // namespace

std::optional<ContentRange> parse_content_range(std::string_view value) {
  if (!take(&value, "bytes ")) return std::nullopt;
  ContentRange out;
  const std::optional<uint64_t> first = take_number(&value);
  if (!first || !take(&value, "-")) return std::nullopt;
  const std::optional<uint64_t> last = take_number(&value);
  if (!last || *last < *first || *last == UINT64_MAX || !take(&value, "/")) return std::nullopt;
  out.first = *first;
  out.last = *last;
  if (value == "*") return out;
  out.total = take_number(&value);
  if (!out.total || !value.empty() || *out.total <= *last) return std::nullopt;
  return out;
}

std::optional<uint64_t> parse_upload_range(std::string_view value) {
  if (!take(&value, "bytes=")) take(&value, "bytes ");
  const std::optional<uint64_t> first = take_number(&value);
  if (!first || *first != 0 || !take(&value, "-")) return std::nullopt;
  const std::optional<uint64_t> last = take_number(&value);
  if (!last || *last == UINT64_MAX || !value.empty()) return std::nullopt;
  return *last + 1;
}

}  // namespace pagein::registry
