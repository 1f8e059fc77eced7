#include "tree/merge.h"

#include <algorithm>

#include "tree/apply.h"

namespace pagein::tree {

using index::FileType;

// Overlayfs over the finished upperdirs. Confined to one merge().
class Merger {
 public:
  explicit Merger(Draft& draft) : draft_(draft), below_(bool(draft.options->lower_directory)) {}

  Result<Tree> run();

 private:
  // What a directory of the result is made of: stack_[first, first + count),
  // topmost first.
  struct Source {
    uint32_t first;
    uint32_t count;
    bool below;  // lower layers than the run's may show through
  };
  // One name's place in one directory of the stack being merged.
  struct Cursor {
    const uint32_t* next;
    const uint32_t* end;
    uint32_t layer;
  };

  void expand(NodeId directory);
  void expand_single(NodeId directory, StackEntry only);
  void expand_stack(NodeId directory);
  // `hits`: the nodes of one name, topmost first.
  void add_child(NodeId directory, std::span<const StackEntry> hits);
  void add_directory(NodeId node, std::span<const StackEntry> hits, bool below);
  void add_whiteout(NodeId directory, std::string_view name);
  InodeId use_inode(uint32_t draft_inode, NodeId node);
  void mark_opaque(InodeId inode);
  const UpperNode& upper(StackEntry e) const { return draft_.uppers[e.layer].nodes[e.node]; }

  Draft& draft_;
  const bool below_;
  Tree tree_;
  std::vector<InodeId> renumbered_;  // by draft inode
  std::vector<StackEntry> stack_;
  std::vector<Source> sources_;  // by node; count 0 for what is no directory
  std::vector<Cursor> heap_;
  std::vector<StackEntry> hits_;
  InodeId whiteout_inode_ = kNone;
};

Result<Tree> Merger::run() {
  renumbered_.assign(draft_.inodes.size(), kNone);
  tree_.nodes_.reserve(draft_.nodes + 1);
  sources_.reserve(draft_.nodes + 1);
  tree_.inodes_.reserve(draft_.inodes.size() + 1);
  tree_.xattrs_ = std::move(draft_.xattrs);

  // Overlayfs merges all layers' roots, whatever they are marked.
  std::vector<StackEntry> roots;
  for (size_t l = draft_.uppers.size(); l-- > 0;) roots.push_back({static_cast<uint32_t>(l), 0});
  uint32_t root_inode = upper(roots.front()).inode;
  for (StackEntry root : roots) {
    // The topmost layer that has an entry for it gives the time.
    root_inode = upper(root).inode;
    if (draft_.inodes[root_inode].attr_entry != 0) break;
  }
  tree_.nodes_.push_back({{}, kRootNode, use_inode(root_inode, kRootNode)});
  sources_.push_back({0, static_cast<uint32_t>(roots.size()), below_});
  stack_ = roots;
  for (NodeId node = 0; node < tree_.nodes_.size(); ++node) {
    if (sources_[node].count > 0) expand(node);
  }
  tree_.layers_ = std::move(draft_.layers);
  tree_.given_ = std::move(draft_.given);
  tree_.strings_ = std::move(draft_.strings);
  return std::move(tree_);
}

void Merger::expand(NodeId directory) {
  const auto first = static_cast<NodeId>(tree_.nodes_.size());
  const Source source = sources_[directory];
  if (source.count == 1) {
    expand_single(directory, stack_[source.first]);
  } else {
    expand_stack(directory);
  }
  auto& inode = tree_.inodes_[tree_.nodes_[directory].inode];
  const auto count = static_cast<uint32_t>(tree_.nodes_.size()) - first;
  inode.first_child = count > 0 ? first : 0;
  inode.child_count = count;
}

void Merger::expand_single(NodeId directory, StackEntry only) {
  const UpperDir& dir = draft_.uppers[only.layer];
  const uint32_t begin = upper(only).first_child;
  for (uint32_t i = begin; i < begin + upper(only).child_count; ++i) {
    const StackEntry hit{only.layer, dir.children[i]};
    add_child(directory, {&hit, 1});
  }
}

void Merger::expand_stack(NodeId directory) {
  const Source source = sources_[directory];
  // A heap of one cursor per layer: smallest name first, of equal names the topmost.
  const auto name = [&](const Cursor& c) { return draft_.uppers[c.layer].nodes[*c.next].name; };
  const auto later = [&](const Cursor& a, const Cursor& b) {
    const int order = name(a).compare(name(b));
    return order != 0 ? order > 0 : a.layer < b.layer;
  };
  heap_.clear();
  for (uint32_t i = source.first; i < source.first + source.count; ++i) {
    const UpperNode& node = upper(stack_[i]);
    if (node.child_count == 0) continue;
    const uint32_t* begin = draft_.uppers[stack_[i].layer].children.data() + node.first_child;
    heap_.push_back({begin, begin + node.child_count, stack_[i].layer});
  }
  std::make_heap(heap_.begin(), heap_.end(), later);
  while (!heap_.empty()) {
    hits_.clear();
    const std::string_view current = name(heap_.front());
    while (!heap_.empty() && name(heap_.front()) == current) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      Cursor& cursor = heap_.back();
      hits_.push_back({cursor.layer, *cursor.next});
      if (++cursor.next == cursor.end) {
        heap_.pop_back();
      } else {
        std::push_heap(heap_.begin(), heap_.end(), later);
      }
    }
    add_child(directory, hits_);
  }
}

void Merger::add_child(NodeId directory, std::span<const StackEntry> hits) {
  const UpperNode& top = upper(hits.front());
  const bool below = sources_[directory].below;
  if (top.type == FileType::whiteout) {
    if (below) add_whiteout(directory, top.name);
    return;
  }
  const auto node = static_cast<NodeId>(tree_.nodes_.size());
  tree_.nodes_.push_back({top.name, directory, use_inode(top.inode, node)});
  sources_.push_back({0, 0, false});
  if (top.is_directory()) {
    ++tree_.inodes_[tree_.nodes_[directory].inode].nlink;
    add_directory(node, hits, below);
  }
}

void Merger::add_directory(NodeId node, std::span<const StackEntry> hits, bool below) {
  const auto first = static_cast<uint32_t>(stack_.size());
  bool stopped = false;
  for (StackEntry hit : hits) {
    if (!upper(hit).is_directory()) {
      stopped = true;
      break;
    }
    stack_.push_back(hit);
    if (upper(hit).opaque) {
      stopped = true;
      break;
    }
  }
  if (below && stopped) mark_opaque(tree_.nodes_[node].inode);
  sources_[node] = {first, static_cast<uint32_t>(stack_.size()) - first, below && !stopped};
}

void Merger::add_whiteout(NodeId directory, std::string_view name) {
  const auto node = static_cast<NodeId>(tree_.nodes_.size());
  if (whiteout_inode_ == kNone) {
    whiteout_inode_ = static_cast<InodeId>(tree_.inodes_.size());
    Tree::Inode inode;
    inode.type = FileType::whiteout;
    inode.attr_entry = static_cast<uint32_t>(draft_.given.size());
    inode.first_node = node;
    tree_.inodes_.push_back(inode);
    draft_.given.push_back({});
  }
  ++tree_.inodes_[whiteout_inode_].nlink;
  tree_.nodes_.push_back({name, directory, whiteout_inode_});
  sources_.push_back({0, 0, false});
}

InodeId Merger::use_inode(uint32_t draft_inode, NodeId node) {
  InodeId& id = renumbered_[draft_inode];
  if (id != kNone) {
    ++tree_.inodes_[id].nlink;
    return id;
  }
  id = static_cast<InodeId>(tree_.inodes_.size());
  const DraftInode& draft = draft_.inodes[draft_inode];
  Tree::Inode inode;
  inode.type = draft.type;
  inode.attr_layer = draft.attr_layer;
  inode.attr_entry = draft.attr_entry;
  inode.data_layer = draft.data_layer;
  inode.data_entry = draft.data_entry;
  inode.nlink = draft.type == FileType::directory ? 2 : 1;
  inode.first_node = node;
  inode.xattr_first = draft.xattr_first;
  inode.xattr_count = draft.xattr_count;
  tree_.inodes_.push_back(inode);
  return id;
}

// "trusted." sorts after "security." and "system.", before "user.".
void Merger::mark_opaque(InodeId id) {
  Tree::Inode& inode = tree_.inodes_[id];
  std::vector<index::XattrView>& all = tree_.xattrs_;
  std::vector<index::XattrView> list(all.begin() + inode.xattr_first,
                                     all.begin() + inode.xattr_first + inode.xattr_count);
  const index::XattrView mark{"trusted.overlay.opaque", "y"};
  list.insert(std::upper_bound(list.begin(), list.end(), mark,
                               [](const auto& a, const auto& b) { return a.name < b.name; }),
              mark);
  inode.xattr_first = static_cast<uint32_t>(all.size());
  inode.xattr_count = static_cast<uint32_t>(list.size());
  all.insert(all.end(), list.begin(), list.end());
}

Result<Tree> merge(std::vector<Layer> layers, const MergeOptions& options) {
  if (layers.empty()) return Error(Code::invalid_argument, "merging no layers");
  if (layers.size() > kMaxLayers) return Error(Code::unsupported, "more than 4096 layers");
  Draft draft;
  draft.layers = std::move(layers);
  draft.options = &options;
  draft.given.push_back({});
  draft.given[0].mode = 0755;
  size_t entries = 0;
  for (const Layer& layer : draft.layers) entries += layer.files->size();
  draft.inodes.reserve(entries);
  draft.uppers.reserve(draft.layers.size());
  for (uint32_t l = 0; l < draft.layers.size(); ++l) {
    ASSIGN_OR_RETURN(UpperDir upper, LayerApplier(draft, l).run());
    draft.uppers.push_back(std::move(upper));
  }
  return Merger(draft).run();
}

}  // namespace pagein::tree
