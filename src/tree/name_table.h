// Internal to merge(): a hash table from (directory, name) to a node.
#pragma once

#include <xxhash.h>

#include <bit>
#include <cstdint>
#include <string_view>
#include <vector>

namespace pagein::tree {

// Open addressing with linear probing. Names are not erased, only given another
// node. The hash is seeded by where the program was loaded, so that a table of
// colliding names cannot be made in advance; nothing depends on its order.
// Thread-compatible.
class NameTable {
 public:
  struct Slot {
    uint32_t node_plus_one = 0;  // 0: free
    uint32_t hash = 0;
  };

  void reset(size_t expected) {
    slots_.assign(std::bit_ceil(expected * 2 + 64), {});
    used_ = 0;
  }

  static uint32_t hash(uint32_t directory, std::string_view name) {
    static const char anchor = 0;
    const auto seed = reinterpret_cast<uintptr_t>(&anchor);
    return static_cast<uint32_t>(
        XXH3_64bits_withSeed(name.data(), name.size(), seed + directory * 0x9e3779b97f4a7c15ULL));
  }

  // The slot of the name, or the free one where it belongs. `same(node)` says
  // whether a node is the one looked for. Valid until the next fill().
  template <typename Same>
  Slot* find(uint32_t hash, Same&& same) {
    const size_t mask = slots_.size() - 1;
    for (size_t i = hash & mask;; i = (i + 1) & mask) {
      Slot& slot = slots_[i];
      if (slot.node_plus_one == 0) return &slot;
      if (slot.hash == hash && same(slot.node_plus_one - 1)) return &slot;
    }
  }

  // Fills a free slot that find() gave.
  void fill(Slot* slot, uint32_t hash, uint32_t node) {
    *slot = {node + 1, hash};
    if (++used_ * 2 > slots_.size()) grow();
  }

 private:
  void grow() {
    std::vector<Slot> old(slots_.size() * 2);
    old.swap(slots_);
    const size_t mask = slots_.size() - 1;
    for (const Slot& slot : old) {
      if (slot.node_plus_one == 0) continue;
      size_t i = slot.hash & mask;
      while (slots_[i].node_plus_one != 0) i = (i + 1) & mask;
      slots_[i] = slot;
    }
  }

  std::vector<Slot> slots_;
  size_t used_ = 0;
};

}  // namespace pagein::tree
