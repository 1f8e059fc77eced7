#include <array>
#include <string>
#include <utility>

#include "base/byte_reader.h"
#include "index/column.h"
#include "index/file_table_columns.h"
#include "index/file_table_format.h"
#include "index/path.h"
#include "tar/stream_reader.h"

namespace pagein::index {

namespace {

// The attributes that a layer's entries share.
struct AttributeSet {
  Entry entry;
  bool time, target, device;
};

struct Time {
  int64_t sec;
  uint32_t nsec;
};

bool is_known_type(uint8_t type) {
  return type >= static_cast<uint8_t>(FileType::regular) &&
         type <= static_cast<uint8_t>(FileType::implied_directory);
}

// Marks and implied directories have no attributes of their own.
bool has_allowed_attributes(const Entry& e) {
  if (e.sparse && e.type != FileType::regular) return false;
  if (has_time(e.type)) return true;
  const uint16_t mode = e.type == FileType::implied_directory ? kImpliedMode : 0;
  return e.mode == mode && e.uid == 0 && e.gid == 0 && e.xattr_count == 0;
}

}  // namespace

class FileTableParser {
 public:
  FileTableParser(ByteView bytes, const FileTableLimits& limits) : bytes_(bytes), limits_(limits) {}

  Result<FileTable> run() {
    RETURN_IF_ERROR(open_columns());
    RETURN_IF_ERROR(copy_strings());
    RETURN_IF_ERROR(read_xattr_lists());
    RETURN_IF_ERROR(read_attribute_sets());
    RETURN_IF_ERROR(read_times());
    RETURN_IF_ERROR(read_entries());
    return std::move(table_);
  }

 private:
  static Error bad(std::string_view why) {
    return Error(Code::corrupt_input, "layer index: files: " + std::string(why));
  }

  Status open_columns() {
    ByteReader reader(bytes_, "layer index: files");
    std::array<uint32_t, kColumnCount> sizes{};
    for (uint32_t& size : sizes) {
      ASSIGN_OR_RETURN(size, reader.u32());
    }
    for (size_t i = 0; i < kColumnCount; ++i) {
      ASSIGN_OR_RETURN(raw_[i], reader.take(sizes[i]));
      columns_[i] = ColumnReader(raw_[i]);
    }
    if (!reader.at_end()) return bad("bytes behind the last column");
    // Each entry has a byte at least, so the claim is paid for.
    if (limits_.entries == 0 || limits_.entries > kMaxEntries ||
        limits_.entries > raw_[kAttributes].size()) {
      return bad("the number of entries is out of range");
    }
    if (as_text(raw_[kNames]).find('/') != std::string_view::npos) {
      return bad("a name holds a slash");
    }
    return {};
  }

  // Names, targets and xattrs stay where they are in their columns, end to end.
  Status copy_strings() {
    const uint64_t total =
        uint64_t{raw_[kNames].size()} + raw_[kTargets].size() + raw_[kXattrLists].size();
    if (total > kMaxStringBytes) return bad("names and xattrs exceed 1 GiB");
    std::string& strings = table_.strings_;
    strings.reserve(static_cast<size_t>(total));
    for (const Column column : {kNames, kTargets, kXattrLists}) {
      string_base_[column] = strings.size();
      strings.append(as_text(raw_[column]));
    }
    return {};
  }

  void place(Column column, std::string_view text, uint32_t& offset, uint32_t& length) const {
    const auto at = reinterpret_cast<const uint8_t*>(text.data()) - raw_[column].data();
    offset = static_cast<uint32_t>(string_base_[column] + static_cast<size_t>(at));
    length = static_cast<uint32_t>(text.size());
  }

  Status read_xattr_lists() {
    ColumnReader& in = columns_[kXattrLists];
    while (in.remaining() > 0) {
      const uint64_t count = in.varint();
      if (count == 0 || count > tar::kMaxXattrs) return bad("an xattr list's length");
      lists_.push_back(
          {static_cast<uint32_t>(table_.xattrs_.size()), static_cast<uint32_t>(count)});
      std::string_view previous;
      for (uint64_t i = 0; i < count; ++i) {
        const std::string_view name = in.text();
        const uint64_t value_size = in.varint();
        const ByteView value = in.bytes(value_size);
        if (!in.ok() || name.size() > tar::kMaxXattrNameBytes || name <= previous ||
            value.size() > tar::kMaxXattrValueBytes) {
          return bad("an xattr is malformed, too long or out of order");
        }
        previous = name;
        FileTable::XattrRef ref{};
        place(kXattrLists, name, ref.name_offset, ref.name_length);
        place(kXattrLists, as_text(value), ref.value_offset, ref.value_length);
        table_.xattrs_.push_back(ref);
      }
    }
    return {};
  }

  Status read_attribute_sets() {
    ColumnReader& in = columns_[kAttributeSets];
    while (in.remaining() > 0) {
      const uint8_t type = in.u8();
      const uint64_t mode = in.varint();
      Entry entry;
      entry.uid = in.varint32();
      entry.gid = in.varint32();
      const uint64_t list = in.varint();
      if (!in.ok() || !is_known_type(type & ~kSparseFlag) || mode > 07777 || list > lists_.size()) {
        return bad("an attribute set is malformed");
      }
      entry.type = static_cast<FileType>(type & ~kSparseFlag);
      entry.sparse = (type & kSparseFlag) != 0;
      entry.mode = static_cast<uint16_t>(mode);
      if (list > 0) {
        entry.xattr_first = lists_[list - 1].first;
        entry.xattr_count = lists_[list - 1].second;
      }
      if (!has_allowed_attributes(entry)) return bad("attributes that its type cannot have");
      sets_.push_back({entry, has_time(entry.type), has_target(entry.type), is_device(entry.type)});
    }
    return {};
  }

  Status read_times() {
    ColumnReader& in = columns_[kTimes];
    uint64_t seconds = 0;
    while (in.remaining() > 0) {
      seconds += static_cast<uint64_t>(unzigzag(in.varint()));
      const uint64_t nanoseconds = in.varint();
      if (!in.ok() || seconds > static_cast<uint64_t>(kMaxMtime) || nanoseconds > 999'999'999) {
        return bad("a time is malformed or out of range");
      }
      times_.push_back({static_cast<int64_t>(seconds), static_cast<uint32_t>(nanoseconds)});
    }
    return {};
  }

  Status read_entries() {
    const auto count = static_cast<EntryId>(limits_.entries);
    table_.entries_.reserve(count);
    path_bytes_.resize(count);
    for (EntryId id = 0; id < count; ++id) {
      if (!read_entry(id)) {
        return bad("entry " + std::to_string(id) + " is malformed or breaks a limit");
      }
    }
    for (const ColumnReader& column : columns_) {
      if (!column.complete()) return bad("a column is longer than its entries");
    }
    return {};
  }

  bool read_entry(EntryId id) {
    const uint64_t set_index = columns_[kAttributes].varint();
    if (set_index >= sets_.size()) return false;
    const AttributeSet& set = sets_[set_index];
    Entry& entry = table_.entries_.emplace_back(set.entry);
    if (id == kRootEntry) {
      if (!is_directory(entry.type)) return false;
    } else if (!read_place(id, entry)) {
      return false;
    }
    if (set.time && !read_time(entry)) return false;
    if (entry.type == FileType::regular) return read_content(id, entry);
    if (set.target) return read_target(entry);
    if (set.device) {
      entry.dev_major = columns_[kDevices].varint32();
      entry.dev_minor = columns_[kDevices].varint32();
      return entry.dev_major <= kMaxDevMajor && entry.dev_minor <= kMaxDevMinor;
    }
    return true;
  }

  bool read_place(EntryId id, Entry& entry) {
    const uint64_t code = columns_[kParents].varint();
    EntryId parent = id - 1;
    if (code <= kMaxParentStep) {
      for (uint64_t step = 0; step < code; ++step) parent = table_.entries_[parent].parent;
    } else if (code - kMaxParentStep - 1 < id) {
      parent = static_cast<EntryId>(code - kMaxParentStep - 1);
    } else {
      return false;
    }
    if (!is_directory(table_.entries_[parent].type)) return false;
    entry.parent = parent;
    if (entry.type == FileType::opaque) return true;
    const std::string_view name = columns_[kNames].text();
    if (name.empty() || name.size() > kMaxNameBytes || name == "." || name == "..") return false;
    place(kNames, name, entry.name_offset, entry.name_length);
    const size_t path_bytes =
        (parent == kRootEntry ? 0 : path_bytes_[parent] + size_t{1}) + name.size();
    path_bytes_[id] = static_cast<uint16_t>(path_bytes);
    return path_bytes <= kMaxPathBytes;
  }

  bool read_time(Entry& entry) {
    const uint64_t low = columns_[kTimeLow].u8();
    const uint64_t high = columns_[kTimeHigh].varint();
    if (high >= kMaxEntries || (high << 8 | low) >= times_.size()) return false;
    const Time& time = times_[high << 8 | low];
    entry.mtime_sec = time.sec;
    entry.mtime_nsec = time.nsec;
    return true;
  }

  bool read_content(EntryId id, Entry& entry) {
    const uint64_t low = columns_[kSizeLow].u8();
    const uint64_t middle = columns_[kSizeMiddle].u8();
    const uint64_t high = columns_[kSizeHigh].varint();
    if (high >> 47 != 0) return false;  // sizes are below 2^63
    entry.size = high << 16 | middle << 8 | low;
    entry.tar_length = entry.size;
    if (entry.sparse && !read_segments(entry)) return false;
    if (entry.tar_length == 0) return true;
    const auto difference = static_cast<uint64_t>(unzigzag(columns_[kOffsets].varint()));
    entry.tar_offset = predicted_offset(tar_end_, id - last_content_) + difference;
    if (entry.tar_offset < tar_end_ || entry.tar_offset > limits_.tar_size ||
        entry.tar_length > limits_.tar_size - entry.tar_offset) {
      return false;
    }
    tar_end_ = entry.tar_offset + entry.tar_length;
    last_content_ = id;
    return true;
  }

  bool read_segments(Entry& entry) {
    ColumnReader& in = columns_[kSegments];
    const uint64_t count = in.varint();
    // A segment takes two bytes at least.
    if (count > in.remaining() / 2 || count > kMaxSegments - table_.segments_.size()) return false;
    entry.segment_first = static_cast<uint32_t>(table_.segments_.size());
    entry.segment_count = static_cast<uint32_t>(count);
    uint64_t at = 0;
    uint64_t total = 0;
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t gap = in.varint();
      const uint64_t length = in.varint();
      if (length == 0 || gap > entry.size - at || length > entry.size - at - gap) return false;
      table_.segments_.push_back({at + gap, length});
      at += gap + length;
      total += length;
    }
    entry.tar_length = total;
    return true;
  }

  bool read_target(Entry& entry) {
    const std::string_view target = columns_[kTargets].text();
    if (target.empty() || target.size() > kMaxPathBytes) return false;
    if (entry.type == FileType::hardlink && !is_normal_path(target)) return false;
    place(kTargets, target, entry.target_offset, entry.target_length);
    return true;
  }

  ByteView bytes_;
  FileTableLimits limits_;
  FileTable table_;
  std::array<ByteView, kColumnCount> raw_;
  std::array<ColumnReader, kColumnCount> columns_;
  std::array<size_t, kColumnCount> string_base_{};
  std::vector<std::pair<uint32_t, uint32_t>> lists_;  // first xattr, count
  std::vector<AttributeSet> sets_;
  std::vector<uint16_t> path_bytes_;  // of each directory's path
  std::vector<Time> times_;
  uint64_t tar_end_ = 0;
  EntryId last_content_ = kRootEntry;
};

Result<FileTable> parse_file_table(ByteView bytes, const FileTableLimits& limits) {
  return FileTableParser(bytes, limits).run();
}

}  // namespace pagein::index
