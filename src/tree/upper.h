// Internal to merge(): what containerd unpacks one layer into, as a tree in memory
// (overlayfs calls such a folder an upperdir), and the state that the layers of
// one merge share.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "tree/merge.h"

namespace pagein::tree {

// As Tree::Inode, before it is known whether anything shows it.
struct DraftInode {
  index::FileType type = index::FileType::directory;
  uint32_t attr_layer = kNone;
  uint32_t attr_entry = 0;
  uint32_t data_layer = 0;
  uint32_t data_entry = 0;
  uint32_t xattr_first = 0;
  uint32_t xattr_count = 0;
};

struct UpperNode {
  std::string_view name;  // into a layer's table
  uint32_t parent = 0;
  uint32_t inode = 0;        // kNone for a whiteout
  uint32_t first_child = 0;  // into UpperDir::children
  uint32_t child_count = 0;
  index::FileType type = index::FileType::directory;
  bool opaque = false;
  bool removed = false;  // replaced by a later entry

  bool is_directory() const { return type == index::FileType::directory; }
};

// Node 0 is the root. Immutable once in Draft::uppers: then `children` holds each
// directory's live nodes, sorted by name.
struct UpperDir {
  std::vector<UpperNode> nodes;
  std::vector<uint32_t> children;

  // kNone where there is none.
  uint32_t find(uint32_t directory, std::string_view name) const;
  // Fills `children`, drops what is below removed nodes.
  void finish();
};

// Confined to one merge().
struct Draft {
  std::vector<Layer> layers;
  const MergeOptions* options = nullptr;
  std::vector<DraftInode> inodes;
  std::vector<index::XattrView> xattrs;
  std::vector<Attributes> given;
  std::deque<std::string> strings;
  std::vector<UpperDir> uppers;  // of the layers done so far, lowest first
  uint64_t nodes = 0;
  uint64_t steps = 0;

  // unsupported once kMaxSteps are used up.
  Status step();
};

// Overlayfs's rule for one name in a stack of directories, topmost first: the
// first hit decides; directories below a directory join it until one is opaque or
// something else is in the way.
struct StackEntry {
  uint32_t layer;
  uint32_t node;
};

// Lookups in finished layers; `path` is components without "." and "..".
// Bounded by Draft::steps.
class LowerLookup {
 public:
  explicit LowerLookup(Draft& draft) : draft_(draft) {}

  // In one layer alone, symlinks resolved inside it, the last component too:
  // what containerd's mkparent looks at. kNone: nothing there. Where something
  // that is no directory is in the way, that (containerd fails then).
  Result<uint32_t> in_layer(uint32_t layer, std::vector<std::string_view> path);

  // In all finished layers as overlayfs shows them, symlinks on the way resolved,
  // a last one not. The inode; kNone: nothing there, or a directory.
  Result<uint32_t> merged_file(std::vector<std::string_view> path);

 private:
  Draft& draft_;
};

// Puts `target`'s components in place of the first `used` components of `path`,
// which name a symlink; ".." and "." are taken away by their letters, above the
// root is the root.
void splice_target(std::vector<std::string_view>* path, size_t used, std::string_view target);

}  // namespace pagein::tree
