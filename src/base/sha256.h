// SHA-256, streaming and whole (OpenSSL's, which uses the CPU's instructions).
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "base/file.h"

namespace pagein {

using Sha256Bytes = std::array<uint8_t, 32>;

// Thread-compatible. finish() may be called once; reset() starts over.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  void update(ByteView bytes);
  Sha256Bytes finish();
  void reset();

 private:
  struct Deleter {
    void operator()(void* context) const;
  };
  std::unique_ptr<void, Deleter> context_;
};

Sha256Bytes sha256(ByteView bytes);

}  // namespace pagein
