// Files of an image read where its layers lie, without unpacking anything.
#pragma once

#include <list>
#include <memory>
#include <vector>

#include "convert/layer_reader.h"
#include "startup/program_files.h"
#include "tree/tree.h"

namespace pagein::convert {

// Reads spans as they are needed, verified, and keeps the last ones (about 32
// MiB). Thread-compatible; blocks.
class ImageReader {
 public:
  // `layers`: those of `tree`, in its order. Both must outlive it.
  ImageReader(const tree::Tree& tree, const std::vector<LayerAccess>& layers)
      : tree_(tree), layers_(layers) {}

  // `file`: a regular file. What is returned must not outlive the reader.
  std::unique_ptr<startup::FileBytes> open(tree::NodeId file);

 private:
  class File;
  struct CachedSpan {
    uint32_t layer;
    size_t span;
    Bytes tar;
  };
  // Good until the next call.
  Result<ByteView> span(uint32_t layer, size_t number);
  Status copy_tar(uint32_t layer, uint64_t begin, std::span<uint8_t> out);

  const tree::Tree& tree_;
  const std::vector<LayerAccess>& layers_;
  codec::SpanStream decoder_;
  std::list<CachedSpan> cache_;  // the last used one first
  uint64_t cached_bytes_ = 0;
};

}  // namespace pagein::convert
