// Small images made from lists of entries, for probing the kernel and for tests.
#pragma once

#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tar/entry.h"
#include "tree/merge.h"

namespace pagein::mount {

// A regular file of `size` bytes, root's, mode 0644.
tar::Entry probe_file(std::string path, uint64_t size);

// EROFS metadata of the merge of `layers`, lowest first. Entries need no content
// offsets, nor lengths unless they are sparse: contents follow each other in the order of the
// entries, so the first file of a layer is at the start of its device, the next at the next 4096
// bytes.
Result<Bytes> probe_image(std::vector<std::vector<tar::Entry>> layers,
                          const tree::MergeOptions& options = {});

}  // namespace pagein::mount
