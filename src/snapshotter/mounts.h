// From a stack of folders to the mounts that containerd makes of it.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "snapshotter/types.h"

namespace pagein::snapshotter {

// Overlayfs options that this kernel wants (as containerd's overlayfs
// snapshotter finds them, containerd snapshots/overlay).
struct OverlayFeatures {
  bool index_off = false;  // the kernel knows index=: switch it off, so that
                           // one upper can be mounted by several containers
  bool userxattr = false;  // we are inside a user namespace
};

// Looks at the kernel and at the filesystem of `root`. Blocks briefly.
OverlayFeatures probe_overlay(const std::filesystem::path& root);

struct MountPlan {
  Kind kind = Kind::active;         // active or view
  std::filesystem::path upper;      // the snapshot's own fs folder
  std::filesystem::path work;       // with an active snapshot
  std::vector<std::string> lowers;  // topmost first; empty: no parent
};

// Pure. No lower: a bind mount of the upper. A view of one lower: a read-only
// bind mount of it. Else one overlay.
std::vector<Mount> make_mounts(const MountPlan& plan, const OverlayFeatures& features);

}  // namespace pagein::snapshotter
