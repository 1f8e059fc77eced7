// Internal to the writer: which xattrs are stored once for all and which within
// their inode.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "erofs/format.h"
#include "tree/tree.h"

namespace pagein::erofs {

struct XattrRecord {
  uint8_t name_index = 0;
  std::string_view suffix;
  std::string_view value;

  uint32_t stored_size() const {
    return static_cast<uint32_t>((sizeof(XattrEntry) + suffix.size() + value.size() + 3) / 4 * 4);
  }
};

// Views point into the tree.
struct XattrPlan {
  struct Unique {
    XattrRecord record;
    uint32_t uses = 0;
    uint32_t shared_id = tree::kNone;  // in 4-byte units of the shared area
  };
  std::vector<Unique> unique;
  std::vector<uint32_t> refs;  // into `unique`: each inode's, one after the other
  struct Range {
    uint32_t first = 0;
    uint32_t count = 0;
  };
  std::vector<Range> by_inode;  // into `refs`
  uint64_t shared_size = 0;     // bytes

  // An inode's xattr body: 0 if it has none.
  uint32_t body_size(tree::InodeId inode) const;
  // Writes that many bytes.
  void write_body(tree::InodeId inode, uint8_t* out) const;
  void write_shared(uint8_t* out) const;

 private:
  bool in_shared(uint32_t ref, uint32_t shared_before) const {
    return unique[ref].shared_id != tree::kNone && shared_before < 255;
  }
};

// unsupported: a name or value that EROFS cannot hold.
Result<XattrPlan> plan_xattrs(const tree::Tree& tree);

}  // namespace pagein::erofs
