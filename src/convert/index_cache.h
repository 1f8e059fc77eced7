// Indexes made before, in a folder of this user: an interrupted conversion goes
// on where it was, and a layer shared by many images is read once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>

#include "index/layer_index_builder.h"
#include "oci/digest.h"

namespace pagein::convert {

// Thread-safe; processes may share a folder. Blocks on disk. Failures to write
// are ignored: it is only a cache. File: the index blob, then the head's size
// (8 bytes, little-endian) and the SHA-256 of all that.
class IndexCache {
 public:
  // `dir` empty: nothing is kept.
  explicit IndexCache(std::filesystem::path dir, uint64_t max_bytes = 1ULL << 30);

  // nullopt if it is not there or damaged (then it is removed).
  std::optional<index::EncodedIndex> find(const oci::Digest& layer, uint64_t spacing) const;
  void keep(const oci::Digest& layer, uint64_t spacing, const index::EncodedIndex& index) const;

 private:
  std::filesystem::path file_of(const oci::Digest& layer, uint64_t spacing) const;
  // Oldest files go until the rest fits.
  void trim() const;

  const std::filesystem::path dir_;
  const uint64_t max_bytes_;
};

}  // namespace pagein::convert
