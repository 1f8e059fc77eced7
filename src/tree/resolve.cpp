// LayerApplier's paths: which directory an entry's parent is, through symlinks,
// and making the parents that have no entry.
#include <algorithm>

#include "tree/apply.h"

namespace pagein::tree {

using index::EntryId;
using index::FileType;

Result<uint32_t> LayerApplier::directory_of(EntryId id) {
  std::vector<EntryId> chain;
  while (id != index::kRootEntry && resolved_[id].epoch != epoch_) {
    if (!chain.empty()) RETURN_IF_ERROR(draft_.step());
    chain.push_back(id);
    id = files_[id].parent;
  }
  uint32_t node = id == index::kRootEntry ? 0 : resolved_[id].node;
  for (auto it = chain.rbegin(); it != chain.rend(); ++it) {
    ASSIGN_OR_RETURN(node, enter(node, files_.name(files_[*it]), OnMissing::create));
    resolved_[*it] = {node, epoch_};
  }
  return node;
}

Result<uint32_t> LayerApplier::enter(uint32_t directory, std::string_view name, OnMissing missing) {
  const uint32_t node = find(directory, name);
  if (node == kNone) {
    if (missing == OnMissing::report) return kNone;
    return make_parent(directory, name);
  }
  const UpperNode& found = upper_.nodes[node];
  switch (found.type) {
    case FileType::directory: return node;
    case FileType::symlink: return follow(node, missing);
    case FileType::whiteout: {
      if (missing == OnMissing::report) return kNone;
      // containerd fails here (ENOTDIR). What lower layers have stays hidden.
      ASSIGN_OR_RETURN(const uint32_t made, put(directory, name, FileType::directory));
      upper_.nodes[made].inode = static_cast<uint32_t>(draft_.inodes.size());
      upper_.nodes[made].opaque = true;
      draft_.inodes.push_back({});
      return made;
    }
    default:
      if (missing == OnMissing::report) return kNone;
      return Error(Code::corrupt_input,
                   "its parent '" + std::string(name) + "' is not a directory");
  }
}

// By letters first: what is before a ".." in a target need not be there, and a
// symlink before it does not count (fs.RootPath cleans each joined path).
Result<uint32_t> LayerApplier::follow(uint32_t symlink, OnMissing missing) {
  const auto target_of = [&](uint32_t node) {
    const DraftInode& inode = draft_.inodes[upper_.nodes[node].inode];
    const index::FileTable& files = *draft_.layers[inode.data_layer].files;
    return files.target(files[inode.data_entry]);
  };
  std::vector<std::string_view> path = path_of(symlink);
  splice_target(&path, path.size(), target_of(symlink));
  unsigned links = 1;
  uint32_t directory = 0;
  for (size_t i = 0; i < path.size();) {
    RETURN_IF_ERROR(draft_.step());
    const std::string_view name = path[i++];
    const uint32_t node = find(directory, name);
    if (node == kNone || upper_.nodes[node].type != FileType::symlink) {
      ASSIGN_OR_RETURN(directory, enter(directory, name, missing));
      if (directory == kNone) return kNone;
      continue;
    }
    if (++links > kMaxLinks) {
      return Error(Code::corrupt_input, "its path has too many levels of symbolic links");
    }
    splice_target(&path, i, target_of(node));
    draft_.steps += path.size();
    directory = 0;
    i = 0;
  }
  return directory;
}

Result<uint32_t> LayerApplier::make_parent(uint32_t directory, std::string_view name) {
  ASSIGN_OR_RETURN(const uint32_t node, put(directory, name, FileType::directory));
  upper_.nodes[node].inode = static_cast<uint32_t>(draft_.inodes.size());
  draft_.inodes.push_back({});
  RETURN_IF_ERROR(inherit_attributes(node));
  return node;
}

Status LayerApplier::inherit_attributes(uint32_t node) {
  if (layer_ == 0 && !draft_.options->lower_directory) return {};
  const std::vector<std::string_view> path = path_of(node);
  draft_.steps += path.size();
  RETURN_IF_ERROR(draft_.step());
  for (uint32_t layer = layer_; layer-- > 0;) {
    ASSIGN_OR_RETURN(const uint32_t found, LowerLookup(draft_).in_layer(layer, path));
    if (found == kNone) continue;
    const UpperNode& lower = draft_.uppers[layer].nodes[found];
    // Replaced there by something else: nothing to inherit.
    if (!lower.is_directory()) return {};
    inherit_from(node, draft_.inodes[lower.inode]);
    return {};
  }
  if (!draft_.options->lower_directory) return {};
  std::string text;
  for (std::string_view component : path) {
    if (!text.empty()) text += '/';
    text += component;
  }
  ASSIGN_OR_RETURN(auto given, draft_.options->lower_directory(text));
  if (!given) return {};
  DraftInode lower;
  lower.attr_entry = static_cast<uint32_t>(draft_.given.size());
  draft_.given.push_back(given->attributes);
  lower.xattr_first = static_cast<uint32_t>(draft_.xattrs.size());
  std::sort(given->xattrs.begin(), given->xattrs.end());
  for (auto& [key, value] : given->xattrs) {
    if (key.starts_with("trusted.") || key.starts_with("user.overlay.")) continue;
    const std::string& key_kept = draft_.strings.emplace_back(std::move(key));
    const std::string& value_kept = draft_.strings.emplace_back(std::move(value));
    draft_.xattrs.push_back({key_kept, value_kept});
  }
  lower.xattr_count = static_cast<uint32_t>(draft_.xattrs.size()) - lower.xattr_first;
  inherit_from(node, lower);
  return {};
}

void LayerApplier::inherit_from(uint32_t node, const DraftInode& lower) {
  DraftInode& inode = draft_.inodes[upper_.nodes[node].inode];
  inode.attr_layer = lower.attr_layer;
  inode.attr_entry = lower.attr_entry;
  inode.xattr_first = lower.xattr_first;
  inode.xattr_count = lower.xattr_count;
}

std::vector<std::string_view> LayerApplier::path_of(uint32_t node) const {
  std::vector<std::string_view> path;
  for (; node != 0; node = upper_.nodes[node].parent) path.push_back(upper_.nodes[node].name);
  std::reverse(path.begin(), path.end());
  return path;
}

}  // namespace pagein::tree
