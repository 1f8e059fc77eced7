#include "erofs/xattrs.h"

#include <xxhash.h>

#include <cstring>
#include <unordered_map>

namespace pagein::erofs {
namespace {

// Larger values leave the inodes dense by going to the shared area.
constexpr size_t kMaxInlineValue = 1024;
constexpr uint64_t kMaxShared = 1ULL << 30;
constexpr uint32_t kMaxBody = 12 + 4 * (65535 - 1);

struct RecordHash {
  size_t operator()(const XattrRecord& r) const {
    return XXH3_64bits_withSeed(
        r.value.data(), r.value.size(),
        XXH3_64bits_withSeed(r.suffix.data(), r.suffix.size(), r.name_index));
  }
};
struct RecordEqual {
  bool operator()(const XattrRecord& a, const XattrRecord& b) const {
    return a.name_index == b.name_index && a.suffix == b.suffix && a.value == b.value;
  }
};

Result<XattrRecord> to_record(const index::XattrView& xattr) {
  for (const XattrPrefix& prefix : kXattrPrefixes) {
    if (!xattr.name.starts_with(prefix.text)) continue;
    XattrRecord record{prefix.index, xattr.name.substr(prefix.text.size()), xattr.value};
    // Only the ACL names are names without a suffix.
    if (record.suffix.empty() == (prefix.text.back() == '.')) break;
    if (record.suffix.size() > 255 || record.value.size() > 65535) {
      return Error(Code::unsupported, "EROFS cannot hold xattr '" + std::string(xattr.name) +
                                          "': its name has " + std::to_string(xattr.name.size()) +
                                          " bytes, its value " +
                                          std::to_string(xattr.value.size()));
    }
    return record;
  }
  return Error(Code::unsupported,
               "EROFS has no prefix for xattr '" + std::string(xattr.name) + "'");
}

uint8_t* write_entry(const XattrRecord& record, uint8_t* out) {
  XattrEntry entry{};
  entry.name_length = static_cast<uint8_t>(record.suffix.size());
  entry.name_index = record.name_index;
  entry.value_size = static_cast<uint16_t>(record.value.size());
  std::memcpy(out, &entry, sizeof entry);
  record.suffix.copy(reinterpret_cast<char*>(out) + sizeof entry, record.suffix.size());
  record.value.copy(reinterpret_cast<char*>(out) + sizeof entry + record.suffix.size(),
                    record.value.size());
  return out + record.stored_size();
}

}  // namespace

uint32_t XattrPlan::body_size(tree::InodeId inode) const {
  if (by_inode.empty() || by_inode[inode].count == 0) return 0;
  const auto [first, count] = by_inode[inode];
  uint32_t size = sizeof(XattrBody);
  uint32_t shared = 0;
  for (uint32_t i = first; i < first + count; ++i) {
    if (in_shared(refs[i], shared)) {
      size += 4;
      ++shared;
    } else {
      size += unique[refs[i]].record.stored_size();
    }
  }
  return size;
}

void XattrPlan::write_body(tree::InodeId inode, uint8_t* out) const {
  const auto [first, count] = by_inode[inode];
  XattrBody body{};
  uint8_t* at = out + sizeof body;
  for (uint32_t i = first; i < first + count; ++i) {
    if (!in_shared(refs[i], body.shared_count)) continue;
    store_le<uint32_t>(at, unique[refs[i]].shared_id);
    at += 4;
    ++body.shared_count;
  }
  uint32_t shared = 0;
  for (uint32_t i = first; i < first + count; ++i) {
    if (in_shared(refs[i], shared)) {
      ++shared;
    } else {
      at = write_entry(unique[refs[i]].record, at);
    }
  }
  std::memcpy(out, &body, sizeof body);
}

void XattrPlan::write_shared(uint8_t* out) const {
  for (const Unique& u : unique) {
    if (u.shared_id != tree::kNone) write_entry(u.record, out + u.shared_id * 4ULL);
  }
}

Result<XattrPlan> plan_xattrs(const tree::Tree& tree) {
  XattrPlan plan;
  std::unordered_map<XattrRecord, uint32_t, RecordHash, RecordEqual> known;
  for (tree::InodeId inode = 0; inode < tree.inode_count(); ++inode) {
    const auto xattrs = tree.xattrs(inode);
    if (xattrs.empty()) continue;
    if (plan.by_inode.empty()) plan.by_inode.resize(tree.inode_count());
    plan.by_inode[inode] = {static_cast<uint32_t>(plan.refs.size()),
                            static_cast<uint32_t>(xattrs.size())};
    for (const auto& xattr : xattrs) {
      auto record = to_record(xattr);
      if (!record.ok()) return record.error().with_context(tree.path(tree.first_node(inode)));
      const auto [it, added] = known.try_emplace(*record, plan.unique.size());
      if (added) plan.unique.push_back({*record});
      ++plan.unique[it->second].uses;
      plan.refs.push_back(it->second);
    }
  }
  for (XattrPlan::Unique& u : plan.unique) {
    if (u.uses < 2 && u.record.value.size() <= kMaxInlineValue) continue;
    u.shared_id = static_cast<uint32_t>(plan.shared_size / 4);
    plan.shared_size += u.record.stored_size();
    if (plan.shared_size > kMaxShared) {
      return Error(Code::unsupported, "more than 1 GiB of different xattrs");
    }
  }
  for (tree::InodeId inode = 0; inode < plan.by_inode.size(); ++inode) {
    if (plan.body_size(inode) > kMaxBody) {
      return Error(Code::unsupported, tree.path(tree.first_node(inode)) +
                                          ": EROFS cannot hold so many xattrs on one file");
    }
  }
  return plan;
}

}  // namespace pagein::erofs
