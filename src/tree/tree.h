// The root filesystem that a run of layers shows: one immutable tree whose nodes
// point back into the layers' file tables. merge() (merge.h) makes it; the EROFS
// writer, the FUSE engine and `pagein check` read it.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "index/data_layout.h"
#include "index/file_table.h"

namespace pagein::tree {

using NodeId = uint32_t;   // a name in a directory
using InodeId = uint32_t;  // what names lead to; hard links share one
inline constexpr NodeId kRootNode = 0;
inline constexpr InodeId kRootInode = 0;
inline constexpr uint32_t kNone = 0xffffffff;

// One layer of the run. From a LayerIndex: {{index, &index->files}, {index, &index->layout}}.
struct Layer {
  std::shared_ptr<const index::FileTable> files;
  std::shared_ptr<const index::DataLayout> layout;
};

// What stat(2) shows. `type` is never hardlink, opaque or implied_directory;
// whiteout only in a tree made to lie over ordinary layers (a device 0:0 then).
struct Attributes {
  index::FileType type = index::FileType::directory;
  uint16_t mode = 0;  // permission bits, 07777
  uint32_t uid = 0;
  uint32_t gid = 0;
  int64_t mtime_sec = 0;
  uint32_t mtime_nsec = 0;
  uint32_t nlink = 0;  // names of a file; 2 + subdirectories of a directory
  uint64_t size = 0;   // bytes of a file or of a symlink's target; else 0
  uint32_t dev_major = 0;
  uint32_t dev_minor = 0;
};

// A regular file's stored bytes: regions of layer `layer`'s data file.
// What no region covers is zeros.
struct Content {
  uint32_t layer = 0;
  std::span<const index::Region> regions;
};

// Immutable after merge(), thread-safe; movable. Views and spans live as long as
// the tree, which shares ownership of its layers' tables.
//  T1 node 0 is the root, its own parent; every other node's parent has a smaller id.
//  T2 a directory's children have consecutive ids, sorted by the bytes of their names.
//  T3 inode ids ascend in the order in which nodes first name them; inode 0 is the root.
//  T4 a directory inode has exactly one node.
class Tree {
 public:
  Tree(Tree&&) = default;
  Tree& operator=(Tree&&) = default;

  size_t node_count() const { return nodes_.size(); }
  size_t inode_count() const { return inodes_.size(); }
  std::span<const Layer> layers() const { return layers_; }

  std::string_view name(NodeId node) const { return nodes_[node].name; }
  NodeId parent(NodeId node) const { return nodes_[node].parent; }
  InodeId inode(NodeId node) const { return nodes_[node].inode; }
  std::string path(NodeId node) const;  // "usr/bin/env"; "" for the root

  // A directory's children are nodes [first, first + count); {0, 0} for others.
  struct Children {
    NodeId first = 0;
    uint32_t count = 0;
  };
  Children children(InodeId directory) const {
    return {inodes_[directory].first_child, inodes_[directory].child_count};
  }
  // Binary search; nullopt where `directory` is none or has no such name.
  std::optional<NodeId> lookup(InodeId directory, std::string_view name) const;
  // Components between '/', taken literally: no symlinks followed, no "..".
  std::optional<NodeId> lookup_path(std::string_view path) const;

  index::FileType type(InodeId inode) const { return inodes_[inode].type; }
  NodeId first_node(InodeId inode) const { return inodes_[inode].first_node; }
  Attributes attributes(InodeId inode) const;
  std::string_view symlink_target(InodeId inode) const;  // "" for others
  Content content(InodeId inode) const;                  // no regions for others
  // Sorted by name. Never trusted.* or user.overlay.* of the image; over ordinary
  // layers an opaque directory has trusted.overlay.opaque=y.
  std::span<const index::XattrView> xattrs(InodeId inode) const {
    const Inode& i = inodes_[inode];
    return std::span(xattrs_).subspan(i.xattr_first, i.xattr_count);
  }

 private:
  friend class Merger;

  struct Node {
    std::string_view name;  // into a layer's table
    NodeId parent;
    InodeId inode;
  };
  // Attributes come from entry `attr_entry` of layer `attr_layer`, or, where that
  // is kNone, from given_[attr_entry]; content and target from `data_*`.
  struct Inode {
    index::FileType type = index::FileType::directory;
    uint32_t attr_layer = kNone;
    uint32_t attr_entry = 0;
    uint32_t data_layer = 0;
    uint32_t data_entry = 0;
    uint32_t nlink = 0;
    NodeId first_node = 0;
    NodeId first_child = 0;
    uint32_t child_count = 0;
    uint32_t xattr_first = 0;
    uint32_t xattr_count = 0;
  };

  Tree() = default;

  std::vector<Layer> layers_;
  std::vector<Node> nodes_;
  std::vector<Inode> inodes_;
  std::vector<index::XattrView> xattrs_;
  std::vector<Attributes> given_;    // [0]: a directory that nothing describes
  std::deque<std::string> strings_;  // what given xattrs point to
};

}  // namespace pagein::tree
