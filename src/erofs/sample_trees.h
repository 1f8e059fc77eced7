// For tests: trees that touch what the format can hold, shared by the tests of the
// writer, the reader and the kernel's view.
#pragma once

#include "tree/tree.h"

namespace pagein::erofs {

tree::Tree every_kind();               // types, attributes at their limits, links, two layers
tree::Tree large_directory(size_t n);  // n files in one
tree::Tree long_names();               // 255 bytes, high bytes, around "." and ".."
tree::Tree deep_tree(size_t depth);
tree::Tree many_layers(size_t n);  // one file from each, and one from all
tree::Tree sparse_files();
tree::Tree many_xattrs();
tree::Tree over_layers();  // whiteouts and opaque marks for layers below

}  // namespace pagein::erofs
