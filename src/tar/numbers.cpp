#include "tar/numbers.h"

#include <limits>

namespace pagein::tar {

namespace {

bool is_padding(uint8_t c) { return c == ' ' || c == 0; }

bool parse_base256(ByteView field, int64_t& out) {
  const uint8_t invert = (field[0] & 0x40) != 0 ? 0xff : 0;
  uint64_t value = 0;
  for (size_t i = 0; i < field.size(); ++i) {
    uint8_t byte = field[i] ^ invert;
    if (i == 0) byte &= 0x7f;
    if (value >> 56 != 0) return false;
    value = value << 8 | byte;
  }
  if (value >> 63 != 0) return false;
  out = static_cast<int64_t>(invert != 0 ? ~value : value);
  return true;
}

}  // namespace

bool parse_octal(ByteView field, int64_t& out) {
  size_t begin = 0;
  size_t end = field.size();
  while (begin < end && is_padding(field[begin])) ++begin;
  while (end > begin && is_padding(field[end - 1])) --end;
  uint64_t value = 0;
  for (size_t i = begin; i < end && field[i] != 0; ++i) {
    const uint8_t digit = field[i] - '0';
    if (digit > 7 || value >> 61 != 0) return false;
    value = value << 3 | digit;
  }
  out = static_cast<int64_t>(value);
  return true;
}

bool parse_numeric(ByteView field, int64_t& out) {
  if (!field.empty() && (field[0] & 0x80) != 0) return parse_base256(field, out);
  return parse_octal(field, out);
}

bool parse_decimal(std::string_view text, int64_t& out) {
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  if (text.empty()) return false;
  const uint64_t limit =
      static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) + (negative ? 1 : 0);
  uint64_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    const auto digit = static_cast<uint64_t>(c - '0');
    if (value > (limit - digit) / 10) return false;
    value = value * 10 + digit;
  }
  out = static_cast<int64_t>(negative ? 0 - value : value);
  return true;
}

bool parse_pax_time(std::string_view text, int64_t& sec, uint32_t& nsec) {
  const size_t dot = text.find('.');
  const std::string_view whole = text.substr(0, dot);
  const std::string_view fraction =
      dot == std::string_view::npos ? std::string_view{} : text.substr(dot + 1);
  int64_t seconds = 0;
  if (!parse_decimal(whole, seconds)) return false;
  uint32_t nanoseconds = 0;
  uint32_t scale = 100'000'000;
  for (const char c : fraction) {
    if (c < '0' || c > '9') return false;
    nanoseconds += static_cast<uint32_t>(c - '0') * scale;
    scale /= 10;
  }
  if (whole[0] == '-' && nanoseconds > 0) {
    nanoseconds = 1'000'000'000 - nanoseconds;
    if (seconds == std::numeric_limits<int64_t>::min()) {
      nanoseconds = 0;  // the earliest time there is
    } else {
      seconds -= 1;
    }
  }
  sec = seconds;
  nsec = nanoseconds;
  return true;
}

}  // namespace pagein::tar
