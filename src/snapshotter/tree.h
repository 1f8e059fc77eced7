// Folder trees that a container may have filled: removed and measured without
// recursion and with a constant number of descriptors, however deep. Neither
// follows symbolic links nor enters other mounts. Both block; thread-safe.
#pragma once

#include <filesystem>

#include "base/result.h"
#include "snapshotter/types.h"

namespace pagein::snapshotter {

// Removes the folder with all below it; one that is not there is fine. Goes on
// past what cannot be removed, and answers the first such error.
Status remove_tree(const std::filesystem::path& path);

// Allocated bytes and inodes, the folder itself included; a file with several
// names counts once (as containerd does: continuity fs.DiskUsage). What
// vanishes meanwhile is left out.
Result<Usage> disk_usage(const std::filesystem::path& path);

}  // namespace pagein::snapshotter
