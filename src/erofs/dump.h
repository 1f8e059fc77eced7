// The text of tree/dump.h, from an image.
#pragma once

#include <string>

#include "erofs/reader.h"

namespace pagein::erofs {

// All names, breadth first, as tree::dump() gives them for the tree that the image
// was written from. corrupt_input: also directories that share blocks or form a
// cycle, names whose type is not their inode's. exhausted: the text would exceed
// 64 MiB and 64 times the image.
Result<std::string> dump(const Reader& reader);

}  // namespace pagein::erofs
