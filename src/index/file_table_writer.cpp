#include <array>
#include <map>
#include <tuple>
#include <utility>

#include "base/byte_reader.h"
#include "index/column.h"
#include "index/file_table_columns.h"
#include "index/file_table_format.h"

namespace pagein::index {

namespace {

class Writer {
 public:
  explicit Writer(const FileTable& table) : table_(table) {}

  Bytes run() {
    for (EntryId id = 0; id < table_.size(); ++id) add(id);
    ByteWriter out;
    for (const ByteWriter& column : columns_) out.u32(static_cast<uint32_t>(column.size()));
    for (ByteWriter& column : columns_) out.bytes(column.buffer());
    return out.take();
  }

 private:
  // type and sparse flag, mode, uid, gid, xattr list (1-based, 0: none)
  using AttributeSet = std::tuple<uint8_t, uint16_t, uint32_t, uint32_t, uint32_t>;
  using Time = std::pair<int64_t, uint32_t>;
  using XattrList = std::pair<uint32_t, uint32_t>;  // first, count

  void add(EntryId id) {
    const Entry& entry = table_[id];
    columns_[kAttributes].varint(attribute_set(entry));
    if (id != kRootEntry) add_parent(id);
    if (id != kRootEntry && entry.type != FileType::opaque) {
      add_text(kNames, table_.name(entry));
    }
    if (has_time(entry.type)) add_time(entry);
    if (entry.type == FileType::regular) add_content(id);
    if (has_target(entry.type)) add_text(kTargets, table_.target(entry));
    if (is_device(entry.type)) {
      columns_[kDevices].varint(entry.dev_major);
      columns_[kDevices].varint(entry.dev_minor);
    }
  }

  void add_text(Column column, std::string_view text) {
    columns_[column].bytes(as_bytes(text));
    columns_[column].u8(0);
  }

  void add_parent(EntryId id) {
    const EntryId parent = table_[id].parent;
    EntryId at = id - 1;
    uint64_t step = 0;
    while (at != parent && at != kRootEntry && step < kMaxParentStep) {
      at = table_[at].parent;
      ++step;
    }
    columns_[kParents].varint(at == parent ? step : kMaxParentStep + 1 + parent);
  }

  void add_time(const Entry& entry) {
    const Time time{entry.mtime_sec, entry.mtime_nsec};
    const auto [place, inserted] = times_.try_emplace(time, times_.size());
    if (inserted) {
      columns_[kTimes].varint(zigzag(entry.mtime_sec - last_seconds_));
      columns_[kTimes].varint(entry.mtime_nsec);
      last_seconds_ = entry.mtime_sec;
    }
    columns_[kTimeLow].u8(static_cast<uint8_t>(place->second));
    columns_[kTimeHigh].varint(place->second >> 8);
  }

  void add_content(EntryId id) {
    const Entry& entry = table_[id];
    columns_[kSizeLow].u8(static_cast<uint8_t>(entry.size));
    columns_[kSizeMiddle].u8(static_cast<uint8_t>(entry.size >> 8));
    columns_[kSizeHigh].varint(entry.size >> 16);
    if (entry.sparse) {
      columns_[kSegments].varint(entry.segment_count);
      uint64_t at = 0;
      for (const SparseSegment& segment : table_.segments(entry)) {
        columns_[kSegments].varint(segment.file_offset - at);
        columns_[kSegments].varint(segment.length);
        at = segment.file_offset + segment.length;
      }
    }
    if (entry.tar_length == 0) return;
    const uint64_t predicted = predicted_offset(tar_end_, id - last_content_);
    columns_[kOffsets].varint(zigzag(static_cast<int64_t>(entry.tar_offset - predicted)));
    tar_end_ = entry.tar_offset + entry.tar_length;
    last_content_ = id;
  }

  // Sets, lists and times are numbered in the order in which they first occur.
  uint64_t attribute_set(const Entry& entry) {
    uint32_t list = 0;
    if (entry.xattr_count > 0) {
      const XattrList key{entry.xattr_first, entry.xattr_count};
      const auto [place, inserted] = lists_.try_emplace(key, lists_.size() + 1);
      if (inserted) write_list(entry);
      list = static_cast<uint32_t>(place->second);
    }
    const auto type =
        static_cast<uint8_t>(static_cast<uint8_t>(entry.type) | (entry.sparse ? kSparseFlag : 0));
    const AttributeSet key{type, entry.mode, entry.uid, entry.gid, list};
    if (last_set_ != sets_.end() && last_set_->first == key) return last_set_->second;
    bool inserted = false;
    std::tie(last_set_, inserted) = sets_.try_emplace(key, sets_.size());
    if (inserted) {
      ByteWriter& out = columns_[kAttributeSets];
      out.u8(type);
      out.varint(entry.mode);
      out.varint(entry.uid);
      out.varint(entry.gid);
      out.varint(list);
    }
    return last_set_->second;
  }

  void write_list(const Entry& entry) {
    ByteWriter& out = columns_[kXattrLists];
    out.varint(entry.xattr_count);
    for (size_t i = 0; i < entry.xattr_count; ++i) {
      const XattrView xattr = table_.xattr(entry, i);
      add_text(kXattrLists, xattr.name);
      out.varint(xattr.value.size());
      out.bytes(as_bytes(xattr.value));
    }
  }

  const FileTable& table_;
  std::array<ByteWriter, kColumnCount> columns_;
  std::map<XattrList, uint64_t> lists_;
  std::map<AttributeSet, uint64_t> sets_;
  std::map<AttributeSet, uint64_t>::iterator last_set_ = sets_.end();
  std::map<Time, uint64_t> times_;
  int64_t last_seconds_ = 0;
  uint64_t tar_end_ = 0;
  EntryId last_content_ = kRootEntry;
};

}  // namespace

Bytes write_file_table(const FileTable& table) { return Writer(table).run(); }

}  // namespace pagein::index
