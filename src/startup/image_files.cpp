#include "startup/image_files.h"

#include "index/file_table.h"

namespace pagein::startup {
namespace {

constexpr int kMaxLinks = 40;             // MAXSYMLINKS of Linux
constexpr size_t kMaxPending = 64 << 10;  // bytes of path not yet walked

}  // namespace

std::optional<tree::NodeId> ImageFiles::resolve(std::string_view path, std::string_view cwd) const {
  // What is still to be walked, from `at`.
  std::string rest;
  if (!path.starts_with('/')) rest = std::string(cwd) + "/";
  rest += path;
  tree::NodeId at = tree::kRootNode;
  int links = 0;
  for (size_t begin = 0; begin < rest.size();) {
    const size_t end = std::min(rest.find('/', begin), rest.size());
    const std::string name = rest.substr(begin, end - begin);
    begin = end + 1;
    if (name.empty() || name == ".") {
      if (tree_.type(tree_.inode(at)) != index::FileType::directory) return std::nullopt;
      continue;
    }
    if (name == "..") {
      at = tree_.parent(at);
      continue;
    }
    const auto child = tree_.lookup(tree_.inode(at), name);
    if (!child) return std::nullopt;
    const tree::InodeId inode = tree_.inode(*child);
    if (tree_.type(inode) != index::FileType::symlink) {
      at = *child;
      continue;
    }
    if (++links > kMaxLinks) return std::nullopt;
    const std::string_view target = tree_.symlink_target(inode);
    rest = std::string(target) + (begin < rest.size() ? "/" + rest.substr(begin) : "");
    begin = 0;
    if (rest.size() > kMaxPending) return std::nullopt;
    if (target.starts_with('/')) at = tree::kRootNode;
  }
  return at;
}

std::optional<tree::NodeId> ImageFiles::resolve_file(std::string_view path,
                                                     std::string_view cwd) const {
  if (path.empty() || path.ends_with('/')) return std::nullopt;
  const auto node = resolve(path, cwd);
  if (!node || tree_.type(tree_.inode(*node)) != index::FileType::regular) return std::nullopt;
  return node;
}

std::vector<tree::NodeId> ImageFiles::files_below(tree::NodeId node) const {
  std::vector<tree::NodeId> files;
  std::vector<tree::NodeId> pending = {node};
  while (!pending.empty()) {
    const tree::NodeId at = pending.back();
    pending.pop_back();
    const tree::InodeId inode = tree_.inode(at);
    if (tree_.type(inode) == index::FileType::regular) files.push_back(at);
    const auto children = tree_.children(inode);
    for (uint32_t i = children.count; i-- > 0;) pending.push_back(children.first + i);
  }
  return files;
}

bool ImageFiles::is_executable(tree::NodeId node) const {
  return (tree_.attributes(tree_.inode(node)).mode & 0111) != 0;
}

}  // namespace pagein::startup
