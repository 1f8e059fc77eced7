// Finding files in a merged image as a process in the container would.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tree/tree.h"

namespace pagein::startup {

// A view of the tree, which must outlive it. Pure; thread-safe.
class ImageFiles {
 public:
  explicit ImageFiles(const tree::Tree& tree) : tree_(tree) {}

  const tree::Tree& tree() const { return tree_; }

  // What `path`, taken from directory `cwd` (absolute) unless it is absolute
  // itself, leads to. Symlinks count, the last one too; so do "." and "..", which
  // never lead out of the root. nullopt: nothing there, or more links than Linux
  // follows (40).
  std::optional<tree::NodeId> resolve(std::string_view path, std::string_view cwd = "/") const;
  // The same, regular files alone.
  std::optional<tree::NodeId> resolve_file(std::string_view path, std::string_view cwd = "/") const;

  // The regular files at and below `node`, in the order of the tree. No symlink
  // is followed.
  std::vector<tree::NodeId> files_below(tree::NodeId node) const;

  // "/usr/bin/env".
  std::string path(tree::NodeId node) const { return "/" + tree_.path(node); }
  bool is_executable(tree::NodeId node) const;

 private:
  const tree::Tree& tree_;
};

}  // namespace pagein::startup
