#include "convert/image_reader.h"

#include <algorithm>

namespace pagein::convert {
namespace {

constexpr uint64_t kMaxCached = 32 << 20;
constexpr uint64_t kMaxRead = 16 << 20;  // at once, of a file

}  // namespace

class ImageReader::File : public startup::FileBytes {
 public:
  File(ImageReader& image, tree::InodeId inode) : image_(image), inode_(inode) {}

  uint64_t size() const override { return image_.tree_.attributes(inode_).size; }

  Result<Bytes> read(uint64_t offset, uint64_t length) override {
    const uint64_t size = this->size();
    if (offset >= size) return Bytes();
    Bytes out(std::min({length, size - offset, kMaxRead}));
    const tree::Content content = image_.tree_.content(inode_);
    const index::DataLayout& layout = *image_.tree_.layers()[content.layer].layout;
    for (const index::Region& region : content.regions) {
      const uint64_t from = std::max(offset, region.file_offset);
      const uint64_t to = std::min(offset + out.size(), region.file_offset + region.length);
      if (from >= to) continue;
      // Where file offset `from` would lie in the data file.
      const uint64_t data = region.data_offset + (from - region.file_offset);
      const auto range = layout.tar_range(data, to - from);
      if (!range) continue;
      const auto [first, last] = layout.extents_in_tar(range->begin, range->end);
      for (size_t i = first; i < last; ++i) {
        const index::Extent& extent = layout.extents()[i];
        const uint64_t begin = std::max(extent.data_offset, data);
        const uint64_t end = std::min(extent.data_offset + extent.length, data + (to - from));
        if (begin >= end) continue;
        RETURN_IF_ERROR(
            image_.copy_tar(content.layer, extent.tar_offset + (begin - extent.data_offset),
                            std::span(out).subspan(from - offset + (begin - data), end - begin)));
      }
    }
    return out;
  }

 private:
  ImageReader& image_;
  const tree::InodeId inode_;
};

std::unique_ptr<startup::FileBytes> ImageReader::open(tree::NodeId file) {
  return std::make_unique<File>(*this, tree_.inode(file));
}

Result<ByteView> ImageReader::span(uint32_t layer, size_t number) {
  const auto it = std::find_if(cache_.begin(), cache_.end(), [&](const CachedSpan& cached) {
    return cached.layer == layer && cached.span == number;
  });
  if (it != cache_.end()) {
    cache_.splice(cache_.begin(), cache_, it);
    return ByteView(cache_.front().tar);
  }
  ASSIGN_OR_RETURN(PendingSpans pending, PendingSpans::begin(layers_[layer], number, 1));
  ASSIGN_OR_RETURN(Bytes tar, pending.wait(decoder_));
  cached_bytes_ += tar.size();
  cache_.push_front({layer, number, std::move(tar)});
  while (cached_bytes_ > kMaxCached && cache_.size() > 1) {
    cached_bytes_ -= cache_.back().tar.size();
    cache_.pop_back();
  }
  return ByteView(cache_.front().tar);
}

Status ImageReader::copy_tar(uint32_t layer, uint64_t begin, std::span<uint8_t> out) {
  const index::LayerIndex& index = *layers_[layer].index;
  while (!out.empty()) {
    // Files lie within the tar by the index's own word alone.
    if (begin >= index.tar_size) {
      return Error(Code::corrupt_input,
                   "layer " + index.layer_digest.str() + ": a file lies beyond the tar's end");
    }
    const size_t number = index.span_at(begin);
    ASSIGN_OR_RETURN(const ByteView bytes, span(layer, number));
    const uint64_t skip = begin - index.spans[number].uncompressed_begin;
    const size_t count = std::min<uint64_t>(out.size(), bytes.size() - skip);
    std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(skip), count, out.begin());
    out = out.subspan(count);
    begin += count;
  }
  return {};
}

}  // namespace pagein::convert
