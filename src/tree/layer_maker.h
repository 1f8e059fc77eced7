// For tests: a layer's file table, made by naming paths.
#pragma once

#include <cassert>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "index/file_table_builder.h"
#include "tree/tree.h"

namespace pagein::tree {

// Entries in the order of the calls, as a tar would have them. Parents without an
// entry become implied directories, once each.
class LayerMaker {
 public:
  using Xattrs = std::vector<std::pair<std::string, std::string>>;

  LayerMaker() { ids_[""] = add({.type = index::FileType::implied_directory}, "", "", {}, {}); }

  // The entry that the next call adds has these; type, name and parent come from the call.
  LayerMaker& with(index::Entry attributes) {
    next_ = attributes;
    return *this;
  }
  LayerMaker& xattrs(Xattrs xattrs) {
    xattrs_ = std::move(xattrs);
    return *this;
  }

  LayerMaker& dir(std::string_view path) { return put(index::FileType::directory, path, "", {}); }
  LayerMaker& file(std::string_view path, uint64_t size = 0) {
    next_.size = size;
    next_.tar_offset = tar_ + 512;
    next_.tar_length = size;
    tar_ += 512 + (size + 511) / 512 * 512;
    return put(index::FileType::regular, path, "", {});
  }
  LayerMaker& sparse(std::string_view path, uint64_t size,
                     std::vector<index::SparseSegment> segments) {
    next_.size = size;
    next_.sparse = true;
    next_.tar_offset = tar_ + 512;
    next_.tar_length = 0;
    for (const auto& s : segments) next_.tar_length += s.length;
    tar_ += 512 + (next_.tar_length + 511) / 512 * 512;
    return put(index::FileType::regular, path, "", segments);
  }
  LayerMaker& symlink(std::string_view path, std::string_view target) {
    return put(index::FileType::symlink, path, target, {});
  }
  LayerMaker& hardlink(std::string_view path, std::string_view target) {
    return put(index::FileType::hardlink, path, target, {});
  }
  LayerMaker& device(index::FileType type, std::string_view path, uint32_t major, uint32_t minor) {
    next_.dev_major = major;
    next_.dev_minor = minor;
    return put(type, path, "", {});
  }
  LayerMaker& fifo(std::string_view path) { return put(index::FileType::fifo, path, "", {}); }
  LayerMaker& whiteout(std::string_view path) {
    return put(index::FileType::whiteout, path, "", {});
  }
  LayerMaker& opaque(std::string_view directory) {
    return put(index::FileType::opaque, std::string(directory) + "/", "", {});
  }

  Layer finish() {
    auto files = std::make_shared<const index::FileTable>(builder_.finish());
    auto layout = index::DataLayout::build(*files);
    assert(layout.ok());
    return {files, std::make_shared<const index::DataLayout>(*std::move(layout))};
  }

 private:
  LayerMaker& put(index::FileType type, std::string_view path, std::string_view target,
                  const std::vector<index::SparseSegment>& segments) {
    const size_t slash = path.rfind('/');
    next_.type = type;
    next_.parent = slash == path.npos ? index::kRootEntry : directory(path.substr(0, slash));
    const std::string_view name = slash == path.npos ? path : path.substr(slash + 1);
    const index::EntryId id = add(next_, name, target, xattrs_, segments);
    if (type == index::FileType::directory) ids_[std::string(path)] = id;
    next_ = {.mode = 0644};
    xattrs_.clear();
    return *this;
  }
  index::EntryId directory(std::string_view path) {
    if (const auto it = ids_.find(path); it != ids_.end()) return it->second;
    const size_t slash = path.rfind('/');
    index::Entry entry{.type = index::FileType::implied_directory};
    if (slash != path.npos) entry.parent = directory(path.substr(0, slash));
    const index::EntryId id =
        add(entry, slash == path.npos ? path : path.substr(slash + 1), "", {}, {});
    ids_[std::string(path)] = id;
    return id;
  }
  index::EntryId add(const index::Entry& entry, std::string_view name, std::string_view target,
                     const Xattrs& xattrs, const std::vector<index::SparseSegment>& segments) {
    return builder_.add(entry, name, target, xattrs, segments);
  }

  index::FileTableBuilder builder_;
  std::map<std::string, index::EntryId, std::less<>> ids_;
  index::Entry next_{.mode = 0644};
  Xattrs xattrs_;
  uint64_t tar_ = 0;
};

}  // namespace pagein::tree
