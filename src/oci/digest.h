// Content digests, as OCI writes them: "sha256:" and 64 lower-case hex digits
// (OCI image-spec v1.1, descriptor.md "Digests"). Only sha256 is supported.
#pragma once

#include <compare>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/sha256.h"

namespace pagein::oci {

// A value; cheap to copy; default is all zeros ("no digest").
class Digest {
 public:
  Digest() = default;
  explicit Digest(const Sha256Bytes& bytes) : bytes_(bytes) {}
  static Digest of(ByteView content) { return Digest(sha256(content)); }
  // corrupt_input for anything but sha256:<64 lower-case hex>.
  static Result<Digest> parse(std::string_view text);

  std::string str() const;  // "sha256:<hex>"
  std::string hex() const;
  const Sha256Bytes& bytes() const { return bytes_; }
  bool empty() const { return bytes_ == Sha256Bytes{}; }
  auto operator<=>(const Digest&) const = default;

 private:
  Sha256Bytes bytes_{};
};

}  // namespace pagein::oci

template <>
struct std::hash<pagein::oci::Digest> {
  size_t operator()(const pagein::oci::Digest& digest) const noexcept {
    size_t value;
    std::memcpy(&value, digest.bytes().data(), sizeof value);
    return value;
  }
};
