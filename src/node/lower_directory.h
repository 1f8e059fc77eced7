// What the merge of a run of layers asks about ordinary layers below it.
#pragma once

#include <string>
#include <vector>

#include "tree/merge.h"

namespace pagein::node {

// Looks `path` up in unpacked layers' folders, topmost first, as overlayfs
// would: a whiteout (device 0:0), a file or a symlink ends the search, and so
// does an opaque directory above. Never leaves the folders. Blocks on disk.
decltype(tree::MergeOptions::lower_directory) lower_directory_lookup(
    std::vector<std::string> directories);

}  // namespace pagein::node
