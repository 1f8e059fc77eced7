// Internal to merge(): unpacking one file table the way containerd unpacks a tar
// into an overlay's upperdir.
#pragma once

#include <string>
#include <vector>

#include "tree/name_table.h"
#include "tree/upper.h"

namespace pagein::tree {

// One use per layer: LayerApplier(draft, l).run() when layers [0, l) are in
// draft.uppers. Confined to one merge().
class LayerApplier {
 public:
  LayerApplier(Draft& draft, uint32_t layer)
      : draft_(draft), layer_(layer), files_(*draft.layers[layer].files) {}

  Result<UpperDir> run();

 private:
  enum class OnMissing { create, report };

  Status apply(index::EntryId id);
  Status apply_directory(index::EntryId id, uint32_t parent);
  Status apply_whiteout(const index::Entry& entry, uint32_t parent);
  Status apply_hardlink(index::EntryId id, uint32_t parent);
  Status apply_file(index::EntryId id, uint32_t parent);

  // The directory that stands for the entry's path now: containerd resolves the
  // path anew for each entry, here only what a removal may have changed.
  Result<uint32_t> directory_of(index::EntryId id);
  // One component down from a directory; kNone (with OnMissing::report) if there
  // is nothing or something that is no directory.
  Result<uint32_t> enter(uint32_t directory, std::string_view name, OnMissing missing);
  Result<uint32_t> follow(uint32_t symlink, OnMissing missing);
  Result<uint32_t> make_parent(uint32_t directory, std::string_view name);
  Status inherit_attributes(uint32_t node);
  void inherit_from(uint32_t node, const DraftInode& lower);

  uint32_t find(uint32_t directory, std::string_view name);
  // Adds a node, in place of one of the same name if there is one.
  Result<uint32_t> put(uint32_t directory, std::string_view name, index::FileType type);
  uint32_t new_inode(index::FileType type, index::EntryId id);
  // The entry's xattrs, over those that the inode has.
  void take_xattrs(DraftInode* inode, const index::Entry& entry);
  std::vector<std::string_view> path_of(uint32_t node) const;

  Draft& draft_;
  const uint32_t layer_;
  const index::FileTable& files_;
  UpperDir upper_;
  NameTable names_;
  // By entry: where directory_of() last led, valid while the epoch is the same.
  struct Resolved {
    uint32_t node = 0;
    uint32_t epoch = 0;
  };
  std::vector<Resolved> resolved_;
  uint32_t epoch_ = 1;
};

}  // namespace pagein::tree
