#include "index/file_table_builder.h"

#include <algorithm>
#include <functional>
#include <limits>
#include <utility>

#include "base/byte_reader.h"
#include "index/path.h"

namespace pagein::index {

namespace {

// image-spec v1.1, layer.md "Whiteouts".
constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kWhiteoutMeta = ".wh..wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";

Error bad_entry(std::string_view path, std::string_view why) {
  return Error(Code::corrupt_input,
               "layer entry \"" + std::string(path.substr(0, 200)) + "\": " + std::string(why));
}

// A component that starts with ".wh..wh.", unless it is the last and the
// opaque mark.
bool is_aufs_metadata(std::string_view path) {
  size_t at = path.find(kWhiteoutMeta);
  for (; at != std::string_view::npos; at = path.find(kWhiteoutMeta, at + 1)) {
    if (at > 0 && path[at - 1] != '/') continue;
    if (path.substr(at) != kOpaque) return true;
  }
  return false;
}

uint32_t owner(int64_t id) {
  const auto cut = static_cast<uint32_t>(id);
  return cut == std::numeric_limits<uint32_t>::max() ? 0 : cut;
}

FileType file_type(tar::EntryType type) {
  switch (type) {
    case tar::EntryType::regular: return FileType::regular;
    case tar::EntryType::directory: return FileType::directory;
    case tar::EntryType::symlink: return FileType::symlink;
    case tar::EntryType::hardlink: return FileType::hardlink;
    case tar::EntryType::char_device: return FileType::char_device;
    case tar::EntryType::block_device: return FileType::block_device;
    case tar::EntryType::fifo: return FileType::fifo;
  }
  return FileType::regular;
}

bool allows_user_xattrs(FileType type) {
  return type == FileType::regular || type == FileType::directory || type == FileType::hardlink;
}

}  // namespace

size_t FileTableBuilder::KeyHash::operator()(const KeyView& key) const noexcept {
  constexpr uint64_t kGolden = 0x9e3779b97f4a7c15;
  return std::hash<std::string_view>{}(key.name) ^ ((key.parent + 1) * kGolden);
}

FileTableBuilder::FileTableBuilder() {
  Entry root;
  root.type = FileType::implied_directory;
  root.mode = kImpliedMode;
  table_.entries_.push_back(root);
}

Status FileTableBuilder::add(const tar::Entry& entry) {
  RETURN_IF_ERROR(normalise_path(entry.path, path_));
  if (is_aufs_metadata(path_)) return {};
  if (!path_.empty()) return add_at(entry, path_);
  if (entry.type != tar::EntryType::directory) return {};
  return describe_directory(entry, table_.entries_[kRootEntry]);
}

Status FileTableBuilder::add_at(const tar::Entry& source, std::string_view path) {
  const size_t slash = path.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  ASSIGN_OR_RETURN(const EntryId parent,
                   directory_at(slash == std::string_view::npos ? "" : path.substr(0, slash)));
  if (name.starts_with(kWhiteout)) return add_mark(parent, name);
  if (source.type == tar::EntryType::directory) return add_directory(source, parent, name);

  if (const auto found = directories_.find(KeyView{parent, name}); found != directories_.end()) {
    // Replaced, and all below it with it.
    directories_.erase(found);
    last_directory_.clear();
    last_directory_id_ = kRootEntry;
  }
  Entry entry;
  entry.type = file_type(source.type);
  entry.parent = parent;
  RETURN_IF_ERROR(set_attributes(source, entry));
  RETURN_IF_ERROR(set_target(source, entry));
  RETURN_IF_ERROR(set_content(source, entry));
  if (entry.type == FileType::char_device || entry.type == FileType::block_device) {
    entry.dev_major = static_cast<uint32_t>(source.dev_major) & kMaxDevMajor;
    entry.dev_minor = static_cast<uint32_t>(source.dev_minor) & kMaxDevMinor;
  }
  ASSIGN_OR_RETURN([[maybe_unused]] const EntryId id, append(entry, name));
  return {};
}

Status FileTableBuilder::add_mark(EntryId parent, std::string_view name) {
  Entry entry;
  entry.parent = parent;
  if (name == kOpaque) {
    entry.type = FileType::opaque;
    name = {};
  } else {
    entry.type = FileType::whiteout;
    name.remove_prefix(kWhiteout.size());
    if (!is_valid_name(name)) return bad_entry(path_, "a whiteout of nothing");
  }
  ASSIGN_OR_RETURN([[maybe_unused]] const EntryId id, append(entry, name));
  return {};
}

Status FileTableBuilder::add_directory(const tar::Entry& source, EntryId parent,
                                       std::string_view name) {
  if (const auto found = directories_.find(KeyView{parent, name}); found != directories_.end()) {
    return describe_directory(source, table_.entries_[found->second]);
  }
  Entry entry;
  entry.type = FileType::directory;
  entry.parent = parent;
  RETURN_IF_ERROR(set_attributes(source, entry));
  ASSIGN_OR_RETURN(const EntryId id, append(entry, name));
  directories_.emplace(Key{parent, std::string(name)}, id);
  return {};
}

// Of a directory that is there already; all or nothing.
Status FileTableBuilder::describe_directory(const tar::Entry& source, Entry& known) {
  Entry changed = known;
  changed.type = FileType::directory;
  RETURN_IF_ERROR(set_attributes(source, changed));
  known = changed;
  return {};
}

Status FileTableBuilder::set_content(const tar::Entry& source, Entry& entry) {
  if (entry.type != FileType::regular) return {};
  entry.size = source.size;
  entry.sparse = source.sparse;
  entry.tar_offset = source.content_offset;
  entry.tar_length = source.content_length;
  constexpr auto kMax = static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  uint64_t end = 0;
  if (!checked_add(entry.tar_offset, entry.tar_length, &end) || end > kMax || entry.size > kMax) {
    return bad_entry(path_, "its size or its content's end exceeds 63 bits");
  }
  if (entry.tar_length == 0) {
    entry.tar_offset = 0;
  } else {
    if (entry.tar_offset < tar_end_) return bad_entry(path_, "its content overlaps another's");
    tar_end_ = end;
  }
  if (!entry.sparse) {
    return entry.size == entry.tar_length
               ? Status()
               : Status(bad_entry(path_, "its size is not that of its content"));
  }
  if (source.segments.size() > kMaxSegments - table_.segments_.size()) {
    return Error(Code::exhausted, "the layer's sparse files have more than 16 million segments");
  }
  entry.segment_first = static_cast<uint32_t>(table_.segments_.size());
  entry.segment_count = static_cast<uint32_t>(source.segments.size());
  uint64_t at = 0;
  uint64_t total = 0;
  for (const tar::SparseSegment& segment : source.segments) {
    if (segment.file_offset < at || segment.length == 0 || segment.file_offset > entry.size ||
        segment.length > entry.size - segment.file_offset) {
      return bad_entry(path_, "its sparse map is out of order or beyond its size");
    }
    at = segment.file_offset + segment.length;
    total += segment.length;
    table_.segments_.push_back({segment.file_offset, segment.length});
  }
  if (total != entry.tar_length) return bad_entry(path_, "its sparse map does not fit its content");
  return {};
}

Status FileTableBuilder::set_target(const tar::Entry& source, Entry& entry) {
  if (entry.type == FileType::symlink) {
    if (source.link_target.empty() || source.link_target.size() > kMaxPathBytes ||
        source.link_target.find('\0') != std::string::npos) {
      return bad_entry(path_, "a symlink's target has to have 1 to 4095 bytes");
    }
    return store(source.link_target, entry.target_offset, entry.target_length);
  }
  if (entry.type != FileType::hardlink) return {};
  RETURN_IF_ERROR(normalise_path(source.link_target, target_));
  if (target_.empty()) return bad_entry(path_, "a hard link to the root");
  return store(target_, entry.target_offset, entry.target_length);
}

Status FileTableBuilder::set_attributes(const tar::Entry& source, Entry& entry) {
  entry.mode = source.mode & 07777;
  entry.uid = owner(source.uid);
  entry.gid = owner(source.gid);
  entry.mtime_sec = source.mtime_sec;
  entry.mtime_nsec = source.mtime_nsec;
  if (entry.mtime_sec < 0 || entry.mtime_sec > kMaxMtime || entry.mtime_nsec > 999'999'999) {
    entry.mtime_sec = 0;
    entry.mtime_nsec = 0;
  }
  return set_xattrs(source, entry);
}

Status FileTableBuilder::set_xattrs(const tar::Entry& source, Entry& entry) {
  entry.xattr_first = 0;
  entry.xattr_count = 0;
  if (source.xattrs.empty()) return {};
  if (source.xattrs.size() > tar::kMaxXattrs) return bad_entry(path_, "too many xattrs");
  ByteWriter list;
  std::string_view previous;
  for (const tar::Xattr& xattr : source.xattrs) {
    if (xattr.name.empty() || xattr.name.size() > tar::kMaxXattrNameBytes ||
        xattr.value.size() > tar::kMaxXattrValueBytes || xattr.name <= previous ||
        xattr.name.find('\0') != std::string::npos) {
      return bad_entry(path_, "its xattrs are out of order or exceed the kernel's limits");
    }
    previous = xattr.name;
    if (xattr.name.starts_with("user.") && !allows_user_xattrs(entry.type)) continue;
    list.varint(xattr.name.size());
    list.bytes(as_bytes(xattr.name));
    list.varint(xattr.value.size());
    list.bytes(as_bytes(xattr.value));
    ++entry.xattr_count;
  }
  if (entry.xattr_count == 0) return {};
  const auto next = static_cast<uint32_t>(table_.xattrs_.size());
  const auto [place, inserted] =
      xattr_lists_.try_emplace(std::string(as_text(list.buffer())), next);
  entry.xattr_first = place->second;
  if (!inserted) return {};
  for (const tar::Xattr& xattr : source.xattrs) {
    if (xattr.name.starts_with("user.") && !allows_user_xattrs(entry.type)) continue;
    FileTable::XattrRef ref{};
    RETURN_IF_ERROR(store(xattr.name, ref.name_offset, ref.name_length));
    RETURN_IF_ERROR(store(xattr.value, ref.value_offset, ref.value_length));
    table_.xattrs_.push_back(ref);
  }
  return {};
}

Result<EntryId> FileTableBuilder::append(Entry entry, std::string_view name) {
  if (table_.entries_.size() >= kMaxEntries) {
    return Error(Code::exhausted, "the layer has more than 16 million entries");
  }
  RETURN_IF_ERROR(store(name, entry.name_offset, entry.name_length));
  table_.entries_.push_back(entry);
  return static_cast<EntryId>(table_.entries_.size() - 1);
}

Result<EntryId> FileTableBuilder::directory_at(std::string_view path) {
  if (path == last_directory_) return last_directory_id_;
  EntryId at = kRootEntry;
  size_t begin = 0;
  while (begin < path.size()) {
    const size_t slash = std::min(path.find('/', begin), path.size());
    const std::string_view name = path.substr(begin, slash - begin);
    begin = slash + 1;
    if (const auto found = directories_.find(KeyView{at, name}); found != directories_.end()) {
      at = found->second;
      continue;
    }
    ASSIGN_OR_RETURN(at, implied_directory(at, name));
  }
  last_directory_.assign(path);
  last_directory_id_ = at;
  return at;
}

Result<EntryId> FileTableBuilder::implied_directory(EntryId parent, std::string_view name) {
  Entry entry;
  entry.type = FileType::implied_directory;
  entry.parent = parent;
  entry.mode = kImpliedMode;
  ASSIGN_OR_RETURN(const EntryId id, append(entry, name));
  directories_.emplace(Key{parent, std::string(name)}, id);
  return id;
}

Status FileTableBuilder::store(std::string_view text, uint32_t& offset, uint32_t& length) {
  if (text.size() > kMaxStringBytes - table_.strings_.size()) {
    return Error(Code::exhausted, "the layer's names and xattrs exceed 1 GiB");
  }
  offset = static_cast<uint32_t>(table_.strings_.size());
  length = static_cast<uint32_t>(text.size());
  table_.strings_.append(text);
  return {};
}

}  // namespace pagein::index
