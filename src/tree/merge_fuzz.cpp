// Any layers: the merge ends, and what it gives keeps the invariants of tree.h.
#include <cstdlib>

#include "tree/dump.h"
#include "tree/layers_from_bytes.h"
#include "tree/merge.h"

namespace {

void require(bool condition) {
  if (!condition) std::abort();
}

void check(const pagein::tree::Tree& tree) {
  using namespace pagein::tree;
  std::vector<uint32_t> names(tree.inode_count());
  InodeId next = 0;
  for (NodeId node = 0; node < tree.node_count(); ++node) {
    require(node == 0 ? tree.parent(node) == 0 : tree.parent(node) < node);
    const InodeId inode = tree.inode(node);
    if (names[inode]++ == 0) {
      require(inode == next++ && tree.first_node(inode) == node);
    }
    if (node > 0) require(tree.lookup(tree.inode(tree.parent(node)), tree.name(node)) == node);
    const auto [first, count] = tree.children(inode);
    for (NodeId child = first; child < first + count; ++child) {
      require(tree.parent(child) == node);
      require(child == first || tree.name(child - 1) < tree.name(child));
    }
  }
  for (InodeId inode = 0; inode < tree.inode_count(); ++inode) {
    const Attributes a = tree.attributes(inode);
    if (a.type == pagein::index::FileType::directory) {
      require(names[inode] == 1);
    } else {
      require(a.nlink == names[inode]);
    }
    for (const auto& xattr : tree.xattrs(inode)) {
      require(!xattr.name.starts_with("user.overlay."));
      require(!xattr.name.starts_with("trusted.") || xattr.name == "trusted.overlay.opaque");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  tree::LayersFromBytes input(data, size);
  tree::MergeOptions options;
  if (input.byte() & 1) {
    options.lower_directory =
        [](std::string_view path) -> Result<std::optional<tree::LowerDirectory>> {
      if (path.size() % 2) return std::nullopt;
      return tree::LowerDirectory{{.mode = 0700}, {{"user.lower", "x"}}};
    };
  }
  const auto layers = input.all();
  if (layers.empty()) return 0;
  const auto merged = tree::merge(layers, options);
  if (!merged.ok()) return 0;
  check(*merged);
  (void)tree::dump(*merged);
  return 0;
}
