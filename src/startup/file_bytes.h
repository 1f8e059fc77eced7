// A file of an image, read piecewise: what looks into programs reads through.
#pragma once

#include <cstdint>

#include "base/file.h"
#include "base/result.h"

namespace pagein::startup {

class FileBytes {
 public:
  virtual ~FileBytes() = default;
  virtual uint64_t size() const = 0;
  // `length` bytes from `offset`, fewer at the file's end. May block.
  virtual Result<Bytes> read(uint64_t offset, uint64_t length) = 0;
};

// For bytes at hand, which must outlive it.
class FileBytesView : public FileBytes {
 public:
  explicit FileBytesView(ByteView bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  Result<Bytes> read(uint64_t offset, uint64_t length) override {
    if (offset >= bytes_.size()) return Bytes();
    const ByteView part = bytes_.subspan(offset);
    const ByteView view = part.first(length < part.size() ? length : part.size());
    return Bytes(view.begin(), view.end());
  }

 private:
  ByteView bytes_;
};

}  // namespace pagein::startup
