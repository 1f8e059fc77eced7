// Blobs that lie in local files (an OCI layout's blobs, parts of an archive) as
// a BlobSource.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>

#include "base/unique_fd.h"
#include "registry/blob_source.h"

namespace pagein::registry {

// Bytes [offset, offset + size) of an open file are a blob.
struct FileExtent {
  std::shared_ptr<const UniqueFd> file;
  uint64_t offset = 0;
  uint64_t size = 0;
};

// Thread-safe; runs on the source's thread, may block. not_found if there is
// no such blob.
using BlobLocator = std::function<Result<FileExtent>(const oci::Digest&)>;

// Reads on one thread of its own, the most urgent read first, by pieces.
std::shared_ptr<BlobSource> make_file_blob_source(BlobLocator locate, std::string description);

// DIR/blobs/sha256/<hex> (OCI image-spec v1.1, image-layout.md).
std::shared_ptr<BlobSource> make_layout_blob_source(const std::filesystem::path& dir);
BlobLocator layout_locator(const std::filesystem::path& dir);

}  // namespace pagein::registry
