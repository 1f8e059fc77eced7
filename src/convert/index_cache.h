// Indexes made before, in a folder of this user: an interrupted conversion goes
// on where it was, and a layer shared by many images is read once.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "index/layer_index_builder.h"
#include "oci/digest.h"

namespace pagein::convert {

struct CachedIndex {
  index::EncodedIndex index;
  std::shared_ptr<const index::LayerIndex> parsed;  // its head
};

// By base layer and by what was made of it, as a text for a file's name. In
// full mode the index names the blob that was made. Whoever finds one compares
// what it has to fit.
//
// Thread-safe; processes may share a folder. Blocks on disk. Failures to write
// are ignored: it is only a cache. File: the index blob, then the head's size
// (8 bytes, little-endian) and the SHA-256 of all that.
class IndexCache {
 public:
  // `dir` empty: nothing is kept.
  explicit IndexCache(std::filesystem::path dir, uint64_t max_bytes = 1ULL << 30);

  // nullopt if it is not there or damaged (then it is removed).
  std::optional<CachedIndex> find(const oci::Digest& layer, const std::string& settings) const;
  void keep(const oci::Digest& layer, const std::string& settings,
            const index::EncodedIndex& index) const;

 private:
  std::filesystem::path file_of(const oci::Digest& layer, const std::string& settings) const;
  // Oldest files go until the rest fits.
  void trim() const;

  const std::filesystem::path dir_;
  const uint64_t max_bytes_;
};

}  // namespace pagein::convert
