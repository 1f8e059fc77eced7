#include "convert/index_cache.h"

#include <algorithm>
#include <vector>

#include "base/byte_reader.h"
#include "base/sha256.h"

namespace pagein::convert {
namespace {

// Changes with the index format or the decoder: old files are then not found.
constexpr std::string_view kSuffix = ".index-v1";
constexpr uint64_t kMaxFile = 1ULL << 30;
constexpr size_t kTrailer = 8 + 32;

}  // namespace

IndexCache::IndexCache(std::filesystem::path dir, uint64_t max_bytes)
    : dir_(std::move(dir)), max_bytes_(max_bytes) {}

std::filesystem::path IndexCache::file_of(const oci::Digest& layer,
                                          const std::string& settings) const {
  return dir_ / (layer.hex() + "-" + settings + std::string(kSuffix));
}

std::optional<CachedIndex> IndexCache::find(const oci::Digest& layer,
                                            const std::string& settings) const {
  if (dir_.empty()) return std::nullopt;
  const std::filesystem::path file = file_of(layer, settings);
  const auto text = read_file(file, kMaxFile);
  if (!text.ok()) return std::nullopt;
  std::error_code ignored;
  const ByteView all = as_bytes(*text);
  if (all.size() >= kTrailer) {
    const ByteView covered = all.first(all.size() - 32);
    const Sha256Bytes sum = sha256(covered);
    const uint64_t head_size = load_le<uint64_t>(covered.data() + covered.size() - 8);
    const ByteView blob = covered.first(covered.size() - 8);
    if (std::equal(sum.begin(), sum.end(), all.last(32).begin()) && head_size <= blob.size()) {
      // Young again: trim() takes the oldest.
      std::filesystem::last_write_time(file, std::filesystem::file_time_type::clock::now(),
                                       ignored);
      index::EncodedIndex index;
      index.head.assign(blob.begin(), blob.begin() + static_cast<ptrdiff_t>(head_size));
      index.checkpoints.assign(blob.begin() + static_cast<ptrdiff_t>(head_size), blob.end());
      // What another version wrote may not be what this one reads.
      const auto parsed = index::parse_head(index.head);
      if (parsed.ok() && (*parsed)->checkpoints_size == index.checkpoints.size()) {
        return CachedIndex{std::move(index), *parsed};
      }
    }
  }
  std::filesystem::remove(file, ignored);
  return std::nullopt;
}

void IndexCache::keep(const oci::Digest& layer, const std::string& settings,
                      const index::EncodedIndex& index) const {
  if (dir_.empty() || !make_dirs(dir_, 0700).ok()) return;
  ByteWriter file;
  file.bytes(index.head);
  file.bytes(index.checkpoints);
  file.u64(index.head.size());
  const Sha256Bytes sum = sha256(file.buffer());
  file.bytes(sum);
  static_cast<void>(replace_file(file_of(layer, settings), file.buffer(), 0600));
  trim();
}

void IndexCache::trim() const {
  struct File {
    std::filesystem::path path;
    uint64_t size;
    std::filesystem::file_time_type time;
  };
  std::vector<File> files;
  uint64_t total = 0;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(dir_, error)) {
    if (!entry.path().native().ends_with(kSuffix)) continue;
    File file{entry.path(), entry.file_size(error), entry.last_write_time(error)};
    if (error) continue;
    total += file.size;
    files.push_back(std::move(file));
  }
  std::sort(files.begin(), files.end(),
            [](const File& a, const File& b) { return a.time < b.time; });
  for (const File& file : files) {
    if (total <= max_bytes_) break;
    std::filesystem::remove(file.path, error);
    total -= file.size;
  }
}

}  // namespace pagein::convert
