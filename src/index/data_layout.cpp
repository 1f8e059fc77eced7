#include "index/data_layout.h"

#include <algorithm>
#include <utility>

#include "base/byte_reader.h"

namespace pagein::index {

namespace {

Error too_large() {
  return Error(Code::corrupt_input,
               "data layout: the layer's files need more than 16 TiB in blocks of 4 KiB");
}

}  // namespace

// Appends the regions and extents of one file after another.
class DataLayout::Builder {
 public:
  explicit Builder(DataLayout& layout) : layout_(layout) {}

  Status add(const FileTable& table, const Entry& entry) {
    if (entry.type != FileType::regular || entry.tar_length == 0) return {};
    if (entry.tar_length > kMaxDataSize) return too_large();
    first_extent_ = layout_.extents_.size();
    if (!entry.sparse) {
      add_extent({layout_.data_size_, entry.tar_offset, entry.tar_length});
      return add_region(0, entry.tar_length);
    }
    uint64_t tar_offset = entry.tar_offset;
    std::span<const SparseSegment> rest = table.segments(entry);
    while (!rest.empty()) {
      const size_t joined = count_joined(rest);
      const SparseSegment& last = rest[joined - 1];
      const uint64_t begin = rest[0].file_offset & ~(kBlockSize - 1);
      const uint64_t end =
          std::min(round_up(last.file_offset + last.length, kBlockSize), entry.size);
      for (const SparseSegment& segment : rest.first(joined)) {
        add_extent({layout_.data_size_ + segment.file_offset - begin, tar_offset, segment.length});
        tar_offset += segment.length;
      }
      RETURN_IF_ERROR(add_region(begin, end - begin));
      rest = rest.subspan(joined);
    }
    return {};
  }

 private:
  // How many of the first segments lie in blocks that touch.
  static size_t count_joined(std::span<const SparseSegment> segments) {
    size_t count = 1;
    while (count < segments.size()) {
      const SparseSegment& last = segments[count - 1];
      const uint64_t end = round_up(last.file_offset + last.length, kBlockSize);
      if ((segments[count].file_offset & ~(kBlockSize - 1)) > end) break;
      ++count;
    }
    return count;
  }

  void add_extent(const Extent& extent) {
    std::vector<Extent>& extents = layout_.extents_;
    if (extents.size() > first_extent_) {
      Extent& last = extents.back();
      if (last.data_offset + last.length == extent.data_offset &&
          last.tar_offset + last.length == extent.tar_offset) {
        last.length += extent.length;
        return;
      }
    }
    extents.push_back(extent);
  }

  Status add_region(uint64_t file_offset, uint64_t length) {
    if (length > kMaxDataSize - layout_.data_size_) return too_large();
    layout_.regions_.push_back({file_offset, layout_.data_size_, length});
    layout_.data_size_ = round_up(layout_.data_size_ + length, kBlockSize);
    return {};
  }

  DataLayout& layout_;
  size_t first_extent_ = 0;  // of the current file
};

Result<DataLayout> DataLayout::build(const FileTable& table) {
  DataLayout layout;
  layout.region_first_.reserve(table.size() + 1);
  layout.regions_.reserve(table.size());
  layout.extents_.reserve(table.size());
  Builder builder(layout);
  for (const Entry& entry : table.entries()) {
    layout.region_first_.push_back(static_cast<uint32_t>(layout.regions_.size()));
    RETURN_IF_ERROR(builder.add(table, entry));
  }
  layout.region_first_.push_back(static_cast<uint32_t>(layout.regions_.size()));
  return layout;
}

std::span<const Region> DataLayout::regions(EntryId id) const {
  const uint32_t first = region_first_[id];
  return std::span(regions_).subspan(first, region_first_[id + 1] - first);
}

std::optional<DataLayout::TarRange> DataLayout::tar_range(uint64_t data_offset,
                                                          uint64_t length) const {
  if (length == 0 || data_offset >= data_size_) return std::nullopt;
  const uint64_t data_end = length > data_size_ - data_offset ? data_size_ : data_offset + length;
  const auto first = std::partition_point(extents_.begin(), extents_.end(), [&](const Extent& e) {
    return e.data_offset + e.length <= data_offset;
  });
  const auto last = std::partition_point(first, extents_.end(),
                                         [&](const Extent& e) { return e.data_offset < data_end; });
  if (first == last) return std::nullopt;
  const Extent& front = *first;
  const Extent& back = *std::prev(last);
  return TarRange{
      front.tar_offset + (std::max(front.data_offset, data_offset) - front.data_offset),
      back.tar_offset + (std::min(back.data_offset + back.length, data_end) - back.data_offset)};
}

std::optional<DataLayout::DataRange> DataLayout::data_range(uint64_t tar_begin,
                                                            uint64_t tar_end) const {
  const auto [first, last] = extents_in_tar(tar_begin, tar_end);
  if (first == last) return std::nullopt;
  const Extent& front = extents_[first];
  const Extent& back = extents_[last - 1];
  return DataRange{
      front.data_offset + (std::max(front.tar_offset, tar_begin) - front.tar_offset),
      back.data_offset + (std::min(back.tar_offset + back.length, tar_end) - back.tar_offset)};
}

std::pair<size_t, size_t> DataLayout::extents_in_tar(uint64_t tar_begin, uint64_t tar_end) const {
  if (tar_begin >= tar_end) return {0, 0};
  const auto first = std::partition_point(extents_.begin(), extents_.end(), [&](const Extent& e) {
    return e.tar_offset + e.length <= tar_begin;
  });
  const auto last = std::partition_point(first, extents_.end(),
                                         [&](const Extent& e) { return e.tar_offset < tar_end; });
  return {static_cast<size_t>(first - extents_.begin()),
          static_cast<size_t>(last - extents_.begin())};
}

}  // namespace pagein::index
