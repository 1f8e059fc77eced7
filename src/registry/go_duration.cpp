#include "registry/go_duration.h"

#include <algorithm>
#include <charconv>

namespace pagein::registry {

namespace {
constexpr double kLongest = 10.0 * 365 * 86400 * 1000;  // milliseconds

// Milliseconds of a unit, which is taken off the text; 0: none.
double take_unit(std::string_view* text) {
  struct Unit {
    std::string_view name;
    double milliseconds;
  };
  // "ms" before "m".
  static constexpr Unit kUnits[] = {{"ns", 1e-6}, {"us", 1e-3},  {"\u00b5s", 1e-3}, {"ms", 1},
                                    {"s", 1000},  {"m", 60'000}, {"h", 3'600'000}};
  for (const Unit& unit : kUnits) {
    if (!text->starts_with(unit.name)) continue;
    text->remove_prefix(unit.name.size());
    return unit.milliseconds;
  }
  return 0;
}
}  // namespace

std::optional<std::chrono::milliseconds> parse_go_duration(std::string_view text) {
  if (text == "0") return std::chrono::milliseconds(0);
  if (text.empty()) return std::nullopt;
  double total = 0;
  while (!text.empty()) {
    const size_t length = std::min(text.find_first_not_of("0123456789."), text.size());
    double value = 0;
    const auto [end, error] =
        std::from_chars(text.data(), text.data() + length, value, std::chars_format::fixed);
    if (length == 0 || error != std::errc() || end != text.data() + length) return std::nullopt;
    text.remove_prefix(length);
    const double unit = take_unit(&text);
    if (unit == 0) return std::nullopt;
    total = std::min(total + value * unit, kLongest);
  }
  return std::chrono::milliseconds(static_cast<int64_t>(total));
}

}  // namespace pagein::registry
