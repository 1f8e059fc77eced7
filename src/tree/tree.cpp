#include "tree/tree.h"

#include <algorithm>

namespace pagein::tree {

using index::FileType;

std::string Tree::path(NodeId node) const {
  std::vector<NodeId> chain;
  for (; node != kRootNode; node = nodes_[node].parent) chain.push_back(node);
  std::string out;
  for (auto it = chain.rbegin(); it != chain.rend(); ++it) {
    if (!out.empty()) out += '/';
    out += nodes_[*it].name;
  }
  return out;
}

std::optional<NodeId> Tree::lookup(InodeId directory, std::string_view name) const {
  const auto [first, count] = children(directory);
  const auto begin = nodes_.begin() + first;
  const auto it = std::lower_bound(begin, begin + count, name,
                                   [](const Node& n, std::string_view s) { return n.name < s; });
  if (it == begin + count || it->name != name) return std::nullopt;
  return static_cast<NodeId>(it - nodes_.begin());
}

std::optional<NodeId> Tree::lookup_path(std::string_view path) const {
  NodeId node = kRootNode;
  while (!path.empty()) {
    const size_t slash = std::min(path.find('/'), path.size());
    const std::string_view component = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (component.empty()) continue;
    const auto child = lookup(nodes_[node].inode, component);
    if (!child) return std::nullopt;
    node = *child;
  }
  return node;
}

Attributes Tree::attributes(InodeId id) const {
  const Inode& inode = inodes_[id];
  Attributes out;
  if (inode.attr_layer == kNone) {
    out = given_[inode.attr_entry];
  } else {
    const index::Entry& e = (*layers_[inode.attr_layer].files)[inode.attr_entry];
    out.mode = e.mode;
    // -1 means "unchanged" to chown(2), so unpacking leaves root.
    out.uid = e.uid == UINT32_MAX ? 0 : e.uid;
    out.gid = e.gid == UINT32_MAX ? 0 : e.gid;
    out.mtime_sec = e.mtime_sec;
    out.mtime_nsec = e.mtime_nsec;
  }
  out.type = inode.type;
  out.nlink = inode.nlink;
  if (inode.type == FileType::directory || inode.type == FileType::whiteout) return out;
  const index::Entry& data = (*layers_[inode.data_layer].files)[inode.data_entry];
  switch (inode.type) {
    case FileType::regular: out.size = data.size; break;
    case FileType::symlink:
      out.mode = 0777;
      out.size = data.target_length;
      break;
    case FileType::char_device:
    case FileType::block_device:
      out.dev_major = data.dev_major;
      out.dev_minor = data.dev_minor;
      break;
    default: break;
  }
  return out;
}

std::string_view Tree::symlink_target(InodeId id) const {
  const Inode& inode = inodes_[id];
  if (inode.type != FileType::symlink) return {};
  const index::FileTable& files = *layers_[inode.data_layer].files;
  return files.target(files[inode.data_entry]);
}

Content Tree::content(InodeId id) const {
  const Inode& inode = inodes_[id];
  if (inode.type != FileType::regular) return {};
  return {inode.data_layer, layers_[inode.data_layer].layout->regions(inode.data_entry)};
}

}  // namespace pagein::tree
