#include "tree/upper.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"

namespace pagein::tree {
namespace {

using index::FileType;

// The first 8 bytes as a number that orders like the bytes.
uint64_t order_key(std::string_view name) {
  uint64_t key = 0;
  std::memcpy(&key, name.data(), std::min<size_t>(name.size(), 8));
  return __builtin_bswap64(key);
}

Error too_many_links() { return Error(Code::corrupt_input, "too many levels of symbolic links"); }

}  // namespace

Status Draft::step() {
  if (++steps <= kMaxSteps) return {};
  return Error(Code::unsupported,
               "the layers' paths lead through too many symbolic links and parents to resolve");
}

uint32_t UpperDir::find(uint32_t directory, std::string_view name) const {
  const UpperNode& dir = nodes[directory];
  const auto begin = children.begin() + dir.first_child;
  const auto end = begin + dir.child_count;
  const auto it = std::lower_bound(
      begin, end, name, [&](uint32_t id, std::string_view s) { return nodes[id].name < s; });
  return it != end && nodes[*it].name == name ? *it : kNone;
}

void UpperDir::finish() {
  // Parents come before their children, so one pass finds what is unreachable.
  for (size_t i = 1; i < nodes.size(); ++i) {
    UpperNode& node = nodes[i];
    if (nodes[node.parent].removed) node.removed = true;
    if (!node.removed) ++nodes[node.parent].child_count;
  }
  uint32_t total = 0;
  for (UpperNode& node : nodes) {
    node.first_child = total;
    total += node.child_count;
  }
  children.resize(total);
  std::vector<uint32_t> fill(nodes.size());
  std::vector<bool> unsorted(nodes.size());
  for (uint32_t i = 1; i < nodes.size(); ++i) {
    if (nodes[i].removed) continue;
    const uint32_t parent = nodes[i].parent;
    const uint32_t at = nodes[parent].first_child + fill[parent]++;
    children[at] = i;
    if (fill[parent] > 1 && nodes[i].name < nodes[children[at - 1]].name) unsorted[parent] = true;
  }
  std::vector<std::pair<uint64_t, uint32_t>> keyed;
  for (size_t d = 0; d < nodes.size(); ++d) {
    if (!unsorted[d]) continue;
    const auto begin = children.begin() + nodes[d].first_child;
    keyed.clear();
    for (uint32_t i = 0; i < nodes[d].child_count; ++i) {
      keyed.emplace_back(order_key(nodes[begin[i]].name), begin[i]);
    }
    std::sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
      return a.first != b.first ? a.first < b.first : nodes[a.second].name < nodes[b.second].name;
    });
    for (uint32_t i = 0; i < nodes[d].child_count; ++i) begin[i] = keyed[i].second;
  }
}

void splice_target(std::vector<std::string_view>* path, size_t used, std::string_view target) {
  std::vector<std::string_view> out;
  if (!target.starts_with('/') && used > 0)
    out.assign(path->begin(), path->begin() + static_cast<ptrdiff_t>(used) - 1);
  while (!target.empty()) {
    const size_t slash = std::min(target.find('/'), target.size());
    const std::string_view component = target.substr(0, slash);
    target.remove_prefix(std::min(slash + 1, target.size()));
    if (component.empty() || component == ".") continue;
    if (component != "..") {
      out.push_back(component);
    } else if (!out.empty()) {
      out.pop_back();
    }
  }
  out.insert(out.end(), path->begin() + static_cast<ptrdiff_t>(used), path->end());
  *path = std::move(out);
}

Result<uint32_t> LowerLookup::in_layer(uint32_t layer, std::vector<std::string_view> path) {
  const UpperDir& upper = draft_.uppers[layer];
  uint32_t node = 0;
  unsigned links = 0;
  for (size_t i = 0; i < path.size();) {
    RETURN_IF_ERROR(draft_.step());
    if (!upper.nodes[node].is_directory()) return node;
    node = upper.find(node, path[i++]);
    if (node == kNone) return kNone;
    if (upper.nodes[node].type != FileType::symlink) continue;
    if (++links > kMaxLinks) return too_many_links();
    const DraftInode& inode = draft_.inodes[upper.nodes[node].inode];
    const index::FileTable& files = *draft_.layers[inode.data_layer].files;
    splice_target(&path, i, files.target(files[inode.data_entry]));
    draft_.steps += path.size();
    node = 0;
    i = 0;
  }
  return node;
}

Result<uint32_t> LowerLookup::merged_file(std::vector<std::string_view> path) {
  const auto root_stack = [&] {
    std::vector<StackEntry> stack;
    for (size_t l = draft_.uppers.size(); l-- > 0;) stack.push_back({static_cast<uint32_t>(l), 0});
    return stack;
  };
  std::vector<StackEntry> stack = root_stack();
  std::vector<StackEntry> next;
  unsigned links = 0;
  for (size_t i = 0; i < path.size();) {
    const std::string_view name = path[i++];
    next.clear();
    uint32_t file = kNone;
    for (const auto [layer, directory] : stack) {
      RETURN_IF_ERROR(draft_.step());
      const uint32_t found = draft_.uppers[layer].find(directory, name);
      if (found == kNone) continue;
      const UpperNode& node = draft_.uppers[layer].nodes[found];
      if (!node.is_directory()) {
        if (next.empty()) file = node.inode;
        break;
      }
      next.push_back({layer, found});
      if (node.opaque) break;
    }
    if (file == kNone) {
      if (next.empty() || i == path.size()) return kNone;
      stack.swap(next);
      continue;
    }
    if (i == path.size()) return file;
    const DraftInode& inode = draft_.inodes[file];
    if (inode.type != FileType::symlink) return kNone;
    if (++links > kMaxLinks) return too_many_links();
    const index::FileTable& files = *draft_.layers[inode.data_layer].files;
    splice_target(&path, i, files.target(files[inode.data_entry]));
    draft_.steps += path.size();
    stack = root_stack();
    i = 0;
  }
  return kNone;
}

}  // namespace pagein::tree
