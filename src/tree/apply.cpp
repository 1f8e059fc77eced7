#include "tree/apply.h"

#include <algorithm>

namespace pagein::tree {
namespace {

using index::Entry;
using index::EntryId;
using index::FileType;

// To overlayfs a device 0:0 is a whiteout.
bool is_whiteout_device(const Entry& entry) {
  return entry.type == FileType::char_device && entry.dev_major == 0 && entry.dev_minor == 0;
}

// trusted.*: containerd does not set it, and overlayfs would obey trusted.overlay.*.
// user.overlay.* is overlayfs's with "userxattr". Others than these namespaces have
// no handler in the kernel (setxattr: ENOTSUP, which containerd ignores), and user.*
// exists on files and directories only.
bool is_kept_xattr(std::string_view name, FileType type) {
  const bool plain = type == FileType::regular || type == FileType::directory;
  if (name.starts_with("user.")) return plain && !name.starts_with("user.overlay.");
  if (name == "system.posix_acl_access") return type != FileType::symlink;
  if (name == "system.posix_acl_default") return type == FileType::directory;
  return name.starts_with("security.") && name.size() > 9;
}

}  // namespace

Result<UpperDir> LayerApplier::run() {
  names_.reset(files_.size());
  resolved_.resize(files_.size());
  upper_.nodes.reserve(files_.size());
  upper_.nodes.push_back({});
  upper_.nodes[0].inode = static_cast<uint32_t>(draft_.inodes.size());
  draft_.inodes.push_back({});
  // containerd ignores the entry of the root; its owner and mode are those of the
  // folder it unpacks into. Only the time, there the time of unpacking, is ours.
  if (const Entry& root = files_[index::kRootEntry]; root.type == FileType::directory) {
    Attributes given = draft_.given[0];
    given.mtime_sec = root.mtime_sec;
    given.mtime_nsec = root.mtime_nsec;
    draft_.inodes.back().attr_entry = static_cast<uint32_t>(draft_.given.size());
    draft_.given.push_back(given);
  }
  for (EntryId id = 1; id < files_.size(); ++id) {
    if (Status status = apply(id); !status.ok()) {
      return status.error().with_context("layer " + std::to_string(layer_) + ", entry '" +
                                         files_.path(id) + "'");
    }
  }
  upper_.finish();
  return std::move(upper_);
}

Status LayerApplier::apply(EntryId id) {
  const Entry& entry = files_[id];
  if (entry.type == FileType::implied_directory) return {};  // made when something needs it
  ASSIGN_OR_RETURN(const uint32_t parent, directory_of(entry.parent));
  switch (entry.type) {
    case FileType::opaque: upper_.nodes[parent].opaque = true; return {};
    case FileType::whiteout: return apply_whiteout(entry, parent);
    case FileType::directory: return apply_directory(id, parent);
    case FileType::hardlink: return apply_hardlink(id, parent);
    default: return apply_file(id, parent);
  }
}

Status LayerApplier::apply_directory(EntryId id, uint32_t parent) {
  const Entry& entry = files_[id];
  uint32_t node = find(parent, files_.name(entry));
  if (node == kNone || !upper_.nodes[node].is_directory()) {
    ASSIGN_OR_RETURN(node, put(parent, files_.name(entry), FileType::directory));
    upper_.nodes[node].inode = new_inode(FileType::directory, id);
  }
  DraftInode& inode = draft_.inodes[upper_.nodes[node].inode];
  inode.attr_layer = layer_;
  inode.attr_entry = id;
  take_xattrs(&inode, entry);
  resolved_[id] = {node, epoch_};
  return {};
}

Status LayerApplier::apply_whiteout(const Entry& entry, uint32_t parent) {
  const uint32_t node = find(parent, files_.name(entry));
  if (node == kNone) {
    ASSIGN_OR_RETURN(const uint32_t made, put(parent, files_.name(entry), FileType::whiteout));
    upper_.nodes[made].inode = kNone;
  } else if (upper_.nodes[node].is_directory()) {
    // containerd fails (mknod: EEXIST). The image format's rule: a whiteout hides
    // what lower layers have, not what its own layer brings.
    upper_.nodes[node].opaque = true;
  }
  return {};
}

Status LayerApplier::apply_hardlink(EntryId id, uint32_t parent) {
  const Entry& entry = files_[id];
  // The name goes first, so a link to itself, or into a directory that it
  // replaces, has no target: as with containerd.
  if (const uint32_t old = find(parent, files_.name(entry)); old != kNone) {
    ASSIGN_OR_RETURN(const uint32_t gone,
                     put(parent, files_.name(entry), FileType::implied_directory));
    upper_.nodes[gone].removed = true;
  }
  std::string_view target = files_.target(entry);
  std::vector<std::string_view> path;
  splice_target(&path, 0, target);
  const auto missing = [&] {
    return Error(Code::corrupt_input,
                 "hard link to '" + std::string(target) + "', which is not there or a directory");
  };
  if (path.empty()) return missing();
  uint32_t directory = 0;
  for (size_t i = 0; i + 1 < path.size() && directory != kNone; ++i) {
    ASSIGN_OR_RETURN(directory, enter(directory, path[i], OnMissing::report));
  }
  const uint32_t node = directory == kNone ? kNone : find(directory, path.back());
  uint32_t inode = kNone;
  if (node == kNone) {
    ASSIGN_OR_RETURN(inode, LowerLookup(draft_).merged_file(path));
    if (inode == kNone) return missing();
  } else if (upper_.nodes[node].is_directory()) {
    return missing();
  } else {
    inode = upper_.nodes[node].inode;
  }
  const FileType type = inode == kNone ? FileType::whiteout : draft_.inodes[inode].type;
  ASSIGN_OR_RETURN(const uint32_t made, put(parent, files_.name(entry), type));
  upper_.nodes[made].inode = inode;
  if (inode != kNone) {
    draft_.inodes[inode].attr_layer = layer_;
    draft_.inodes[inode].attr_entry = id;
    take_xattrs(&draft_.inodes[inode], entry);
  }
  return {};
}

Status LayerApplier::apply_file(EntryId id, uint32_t parent) {
  const Entry& entry = files_[id];
  if (is_whiteout_device(entry)) {
    ASSIGN_OR_RETURN(const uint32_t node, put(parent, files_.name(entry), FileType::whiteout));
    upper_.nodes[node].inode = kNone;
    return {};
  }
  ASSIGN_OR_RETURN(const uint32_t node, put(parent, files_.name(entry), entry.type));
  upper_.nodes[node].inode = new_inode(entry.type, id);
  take_xattrs(&draft_.inodes.back(), entry);
  return {};
}

uint32_t LayerApplier::find(uint32_t directory, std::string_view name) {
  const NameTable::Slot* slot = names_.find(NameTable::hash(directory, name), [&](uint32_t id) {
    return upper_.nodes[id].parent == directory && upper_.nodes[id].name == name;
  });
  if (slot->node_plus_one == 0) return kNone;
  const uint32_t node = slot->node_plus_one - 1;
  return upper_.nodes[node].removed ? kNone : node;
}

Result<uint32_t> LayerApplier::put(uint32_t directory, std::string_view name, FileType type) {
  if (name.size() > index::kMaxNameBytes)
    return Error(Code::corrupt_input, "a name is longer than 255 bytes");
  if (++draft_.nodes > kMaxNodes) return Error(Code::unsupported, "more than 16 million names");
  const auto made = static_cast<uint32_t>(upper_.nodes.size());
  const uint32_t hash = NameTable::hash(directory, name);
  NameTable::Slot* slot = names_.find(hash, [&](uint32_t id) {
    return upper_.nodes[id].parent == directory && upper_.nodes[id].name == name;
  });
  if (slot->node_plus_one == 0) {
    names_.fill(slot, hash, made);
  } else {
    UpperNode& old = upper_.nodes[slot->node_plus_one - 1];
    old.removed = true;
    // Paths that led through it may lead elsewhere now.
    if (old.is_directory() || old.type == FileType::symlink) ++epoch_;
    slot->node_plus_one = made + 1;
  }
  UpperNode node;
  node.name = name;
  node.parent = directory;
  node.type = type;
  upper_.nodes.push_back(node);
  return made;
}

uint32_t LayerApplier::new_inode(FileType type, EntryId id) {
  DraftInode inode;
  inode.type = type;
  inode.attr_layer = inode.data_layer = layer_;
  inode.attr_entry = inode.data_entry = id;
  draft_.inodes.push_back(inode);
  return static_cast<uint32_t>(draft_.inodes.size() - 1);
}

void LayerApplier::take_xattrs(DraftInode* inode, const Entry& entry) {
  const size_t count = files_.xattr_count(entry);
  if (count == 0) return;
  std::vector<index::XattrView> list;
  for (size_t i = 0; i < count; ++i) {
    const index::XattrView xattr = files_.xattr(entry, i);
    if (is_kept_xattr(xattr.name, inode->type)) list.push_back(xattr);
  }
  if (list.empty()) return;
  // A later value of a name goes before an earlier one, which unique() then drops.
  std::reverse(list.begin(), list.end());
  for (uint32_t i = 0; i < inode->xattr_count; ++i) {
    list.push_back(draft_.xattrs[inode->xattr_first + i]);
  }
  std::stable_sort(list.begin(), list.end(),
                   [](const auto& a, const auto& b) { return a.name < b.name; });
  list.erase(std::unique(list.begin(), list.end(),
                         [](const auto& a, const auto& b) { return a.name == b.name; }),
             list.end());
  inode->xattr_first = static_cast<uint32_t>(draft_.xattrs.size());
  inode->xattr_count = static_cast<uint32_t>(list.size());
  draft_.xattrs.insert(draft_.xattrs.end(), list.begin(), list.end());
}

}  // namespace pagein::tree
