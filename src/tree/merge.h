// Merging the file tables of a run of layers into one tree, with the result that
// containerd's apply of these layers onto overlayfs shows.
//
// What "shows" means is containerd's archive.Apply with OverlayConvertWhiteout and
// WithParents (archive/tar.go, tar_opts_linux.go, v1.6 and v1.7) per layer, then
// overlayfs over the results. README.md lists the rules that surprise, the cases where
// containerd fails and this does not, and the known differences.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tree/tree.h"

namespace pagein::tree {

// Caps, checked as the merge goes; beyond them the answer is `unsupported`.
inline constexpr size_t kMaxLayers = 4096;
inline constexpr uint64_t kMaxNodes = 16'000'000;
// Components looked up through symlinks or in lower layers; bounds hostile tables.
inline constexpr uint64_t kMaxSteps = 64'000'000;
inline constexpr unsigned kMaxLinks = 255;  // as containerd's fs.RootPath

// A directory as the ordinarily unpacked layers below the run have it.
struct LowerDirectory {
  Attributes attributes;  // mode, uid, gid, mtime count
  std::vector<std::pair<std::string, std::string>> xattrs;
};

struct MergeOptions {
  // Set if and only if ordinary layers lie below the run. Then whiteouts of names
  // that those may have stay (FileType::whiteout), and so do opaque marks, also on
  // directories that replace something. A parent directory without a tar entry of
  // its own takes its attributes from the nearest lower layer that has it; this is
  // called where no layer of the run does: lstat(2) of `path` (no leading '/') in
  // the topmost lower layer that has it, nullopt where that is no directory or none
  // has it (0755 root:root then). May block; an error ends the merge with it.
  std::function<Result<std::optional<LowerDirectory>>(std::string_view path)> lower_directory;
};

// Pure and deterministic unless lower_directory is set. Thread-safe. `layers` from
// the lowest up; at least one. Linear in the entries but for the sorting of
// directories whose entries do not arrive sorted.
//   corrupt_input: containerd would fail to unpack this: a parent that is a file, a
//     hard link to nothing or to a directory, too many symlinks, a symlink through a
//     name of more than 255 bytes.
//   unsupported: more than the caps above allow.
Result<Tree> merge(std::vector<Layer> layers, const MergeOptions& options = {});

}  // namespace pagein::tree
