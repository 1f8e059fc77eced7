// The mounts that make a snapshot: overlayfs over the lowers, or a bind mount.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/result.h"

namespace pagein::mount {

// As containerd's Mount: mount(2)'s type and source, options one by one.
struct Mount {
  std::string type;
  std::string source;
  std::vector<std::string> options;
};

// Which options containerd's overlay snapshotter would add on this machine.
struct OverlayFeatures {
  bool index_off = false;  // the kernel knows index=: say index=off
  bool userxattr = false;  // inside a user namespace
};
OverlayFeatures detect_overlay_features();

// A snapshot's directories. Lowers topmost first, as overlayfs lists them.
// `upper` and `work` are both set (an active snapshot) or both empty (a view).
struct OverlaySpec {
  std::vector<std::filesystem::path> lowers;
  std::filesystem::path upper;
  std::filesystem::path work;
  OverlayFeatures features;
};

// overlayfs's limit (OVL_MAX_STACK).
inline constexpr size_t kMaxLowers = 500;

// What containerd 1.6's overlay snapshotter answers for the same directories
// (snapshots/overlay/overlay.go): no lowers: upper as a bind mount, rw; one
// lower and no upper: that as a bind mount, ro; else overlay, ro without upper.
// invalid_argument: nothing to mount, or half of upper and work.
Result<std::vector<Mount>> snapshot_mounts(const OverlaySpec& spec);

// A path as part of overlay's lowerdir=, upperdir= and workdir= options in a
// mount(2) string: '\\', ':' and ',' get a backslash.
std::string escape_overlay_path(const std::filesystem::path& path);

// Mounts the same at `target`, for callers without containerd.
Status mount_overlay(const OverlaySpec& spec, const std::filesystem::path& target);

}  // namespace pagein::mount
