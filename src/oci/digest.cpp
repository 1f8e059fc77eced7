#include "oci/digest.h"

namespace pagein::oci {

namespace {
constexpr std::string_view kPrefix = "sha256:";

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}
}  // namespace

Result<Digest> Digest::parse(std::string_view text) {
  auto bad = [&](std::string_view why) {
    return Error(Code::corrupt_input,
                 "digest \"" + std::string(text.substr(0, 100)) + "\": " + std::string(why));
  };
  if (!text.starts_with(kPrefix)) return bad("only sha256: digests are supported");
  const std::string_view hex = text.substr(kPrefix.size());
  if (hex.size() != 64) return bad("needs 64 hex digits");
  Sha256Bytes bytes;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const int high = hex_value(hex[2 * i]);
    const int low = hex_value(hex[2 * i + 1]);
    if (high < 0 || low < 0) return bad("has a character that is not a lower-case hex digit");
    bytes[i] = static_cast<uint8_t>(high << 4 | low);
  }
  return Digest(bytes);
}

std::string Digest::hex() const {
  static constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  out.reserve(64);
  for (const uint8_t byte : bytes_) {
    out += kHex[byte >> 4];
    out += kHex[byte & 15];
  }
  return out;
}

std::string Digest::str() const { return std::string(kPrefix) + hex(); }

}  // namespace pagein::oci
