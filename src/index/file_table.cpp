#include "index/file_table.h"

namespace pagein::index {

std::string FileTable::path(EntryId id) const {
  size_t length = 0;
  for (EntryId at = id; at != kRootEntry; at = entries_[at].parent) {
    length += entries_[at].name_length + 1;
  }
  if (length == 0) return {};
  std::string out(length - 1, '/');
  size_t end = length;
  for (EntryId at = id; at != kRootEntry; at = entries_[at].parent) {
    const std::string_view part = name(entries_[at]);
    end -= part.size() + 1;
    out.replace(end, part.size(), part);
  }
  return out;
}

}  // namespace pagein::index
