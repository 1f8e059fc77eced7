// For tests: a layer's file table, made by naming paths.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "index/file_table_builder.h"
#include "tree/tree.h"

namespace pagein::tree {

// Entries in the order of the calls, as in a tar. What cannot be aborts.
class LayerMaker {
 public:
  using Xattrs = std::vector<std::pair<std::string, std::string>>;
  using Type = tar::EntryType;

  // What the next call adds has these attributes; type and names come from the call.
  LayerMaker& with(tar::Entry attributes) {
    next_ = std::move(attributes);
    return *this;
  }
  LayerMaker& xattrs(Xattrs xattrs) {
    std::sort(xattrs.begin(), xattrs.end());
    for (auto& [name, value] : xattrs) next_.xattrs.push_back({std::move(name), std::move(value)});
    return *this;
  }

  LayerMaker& dir(std::string_view path) { return put(Type::directory, path); }
  LayerMaker& file(std::string_view path, uint64_t size = 0) {
    next_.size = next_.content_length = size;
    return put(Type::regular, path);
  }
  LayerMaker& sparse(std::string_view path, uint64_t size,
                     std::vector<tar::SparseSegment> segments) {
    next_.size = size;
    next_.sparse = true;
    for (const auto& s : segments) next_.content_length += s.length;
    next_.segments = std::move(segments);
    return put(Type::regular, path);
  }
  LayerMaker& symlink(std::string_view path, std::string_view target) {
    next_.link_target = target;
    return put(Type::symlink, path);
  }
  LayerMaker& hardlink(std::string_view path, std::string_view target) {
    next_.link_target = target;
    return put(Type::hardlink, path);
  }
  LayerMaker& device(Type type, std::string_view path, uint32_t major, uint32_t minor) {
    next_.dev_major = major;
    next_.dev_minor = minor;
    return put(type, path);
  }
  LayerMaker& fifo(std::string_view path) { return put(Type::fifo, path); }
  LayerMaker& whiteout(std::string_view path) {
    const size_t name = path.rfind('/') + 1;  // 0 where there is none
    return file(std::string(path.substr(0, name)) + ".wh." + std::string(path.substr(name)));
  }
  LayerMaker& opaque(std::string_view directory) {
    return file(std::string(directory) + "/.wh..wh..opq");
  }

  Layer finish() {
    auto files = std::make_shared<const index::FileTable>(builder_.finish());
    auto layout = index::DataLayout::build(*files);
    if (!layout.ok()) fail(layout.error());
    return {files, std::make_shared<const index::DataLayout>(*std::move(layout))};
  }

 private:
  [[noreturn]] static void fail(const Error& error) {
    std::fprintf(stderr, "%s\n", error.message.c_str());
    std::abort();
  }
  LayerMaker& put(Type type, std::string_view path) {
    next_.type = type;
    next_.path = path;
    if (next_.content_length > 0) {
      next_.content_offset = tar_ + 512;
      tar_ = next_.content_offset + (next_.content_length + 511) / 512 * 512;
    }
    if (const Status status = builder_.add(next_); !status.ok()) fail(status.error());
    next_ = {.mode = 0644};
    return *this;
  }

  index::FileTableBuilder builder_;
  tar::Entry next_{.mode = 0644};
  uint64_t tar_ = 0;
};

}  // namespace pagein::tree
