// An image's metadata file, mapped. Internal to mount.
#pragma once

#include <filesystem>
#include <memory>

#include "erofs/reader.h"

namespace pagein::mount {

// Immutable, thread-safe. The file must not be truncated while it is mapped; it
// may be replaced or removed.
class MetadataFile {
 public:
  // corrupt_input where it is no image that erofs::write_metadata made, or where
  // there are not `devices` devices in its table.
  static Result<std::shared_ptr<const MetadataFile>> open(const std::filesystem::path& path,
                                                          size_t devices);
  ~MetadataFile();
  MetadataFile(const MetadataFile&) = delete;
  MetadataFile& operator=(const MetadataFile&) = delete;

  const erofs::Reader& reader() const { return reader_; }
  ByteView bytes() const { return bytes_; }

 private:
  MetadataFile(ByteView bytes, erofs::Reader reader) : bytes_(bytes), reader_(std::move(reader)) {}
  const ByteView bytes_;  // of the mapping
  const erofs::Reader reader_;
};

}  // namespace pagein::mount
