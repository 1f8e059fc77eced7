#include <algorithm>
#include <charconv>

#include "net/http_client.h"

namespace pagein::net {

namespace {
bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    return lower(x) == lower(y);
  });
}
}  // namespace

void Headers::add(std::string name, std::string value) {
  fields_.emplace_back(std::move(name), std::move(value));
}

void Headers::remove(std::string_view name) {
  std::erase_if(fields_, [&](const auto& field) { return same_name(field.first, name); });
}

const std::string* Headers::find(std::string_view name) const {
  for (const auto& [field, value] : fields_) {
    if (same_name(field, name)) return &value;
  }
  return nullptr;
}

std::vector<std::string_view> Headers::find_all(std::string_view name) const {
  std::vector<std::string_view> out;
  for (const auto& [field, value] : fields_) {
    if (same_name(field, name)) out.push_back(value);
  }
  return out;
}

std::optional<uint64_t> ResponseHead::content_length() const {
  const std::string* value = headers.find("Content-Length");
  if (value == nullptr) return std::nullopt;
  uint64_t length = 0;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), length);
  if (error != std::errc() || end != value->data() + value->size()) return std::nullopt;
  return length;
}

uint64_t LinkEstimate::bytes_per_round_trip() const {
  const double rate = std::max(bytes_per_second, peak_bytes_per_second);
  return static_cast<uint64_t>(rate * static_cast<double>(least_first_byte.count()) / 1e6);
}

}  // namespace pagein::net
