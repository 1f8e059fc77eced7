#include "tar/pax.h"

#include <algorithm>
#include <string>

#include "tar/numbers.h"

namespace pagein::tar {

namespace {

// In the order of PaxKey. The GNU.sparse keys: GNU tar manual, "PAX Format,
// Versions 0.0, 0.1, 1.0".
constexpr std::array<std::string_view, static_cast<size_t>(PaxKey::count)> kKeys = {
    "path",
    "linkpath",
    "size",
    "uid",
    "gid",
    "uname",
    "gname",
    "mtime",
    "atime",
    "ctime",
    "GNU.sparse.major",
    "GNU.sparse.minor",
    "GNU.sparse.name",
    "GNU.sparse.size",
    "GNU.sparse.realsize",
    "GNU.sparse.map",
    "GNU.sparse.numblocks",
};
constexpr std::string_view kSparseOffset = "GNU.sparse.offset";
constexpr std::string_view kSparseNumBytes = "GNU.sparse.numbytes";
constexpr std::string_view kXattr = "SCHILY.xattr.";

// "5 a=\n" is the shortest record.
constexpr int64_t kMinRecordLength = 5;

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

Error bad_record(std::string_view why) {
  return Error(Code::corrupt_input, "pax header: " + std::string(why));
}

bool must_be_text(PaxKey key) {
  return key == PaxKey::path || key == PaxKey::linkpath || key == PaxKey::uname ||
         key == PaxKey::gname;
}

}  // namespace

Result<PaxRecords> PaxRecords::parse(ByteView bytes) {
  PaxRecords records;
  std::string_view rest = as_text(bytes);
  while (!rest.empty()) {
    const size_t space = rest.find(' ');
    if (space == std::string_view::npos) return bad_record("a record has no length");
    int64_t length = 0;
    if (!parse_decimal(rest.substr(0, space), length) || length < kMinRecordLength ||
        static_cast<uint64_t>(length) > rest.size() || static_cast<uint64_t>(length) <= space + 1) {
      return bad_record("a record's length is malformed or beyond the header's end");
    }
    std::string_view record = rest.substr(space + 1, static_cast<size_t>(length) - space - 1);
    rest.remove_prefix(static_cast<size_t>(length));
    if (record.back() != '\n') return bad_record("a record does not end where its length says");
    record.remove_suffix(1);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos || equals == 0) {
      return bad_record("a record is not KEY=VALUE");
    }
    RETURN_IF_ERROR(records.add(record.substr(0, equals), record.substr(equals + 1)));
  }
  if (std::vector<std::string_view>& pairs = records.sparse_pairs_; !pairs.empty()) {
    if (pairs.size() == 1 && pairs[0].empty()) pairs.clear();
    records.values_[static_cast<size_t>(PaxKey::sparse_map)] = {};
  }
  return records;
}

Status PaxRecords::add(std::string_view key, std::string_view value) {
  if (key.starts_with(kXattr)) {
    if (has_nul(key)) return bad_record("an attribute's name holds a NUL");
    xattrs_.emplace_back(key.substr(kXattr.size()), value);
    return {};
  }
  if (key == kSparseOffset || key == kSparseNumBytes) {
    const bool wants_offset = sparse_pairs_.size() % 2 == 0;
    if (wants_offset != (key == kSparseOffset)) {
      return bad_record("GNU.sparse.offset and .numbytes do not alternate");
    }
    if (value.find(',') != std::string_view::npos) {
      return bad_record(std::string(key) + " holds a comma");
    }
    sparse_pairs_.push_back(value);
    return {};
  }
  const auto known = std::find(kKeys.begin(), kKeys.end(), key);
  if (known == kKeys.end()) {
    return has_nul(key) ? Status(bad_record("a key holds a NUL")) : Status();
  }
  const auto index = static_cast<size_t>(known - kKeys.begin());
  if (must_be_text(static_cast<PaxKey>(index)) && has_nul(value)) {
    return bad_record(std::string(key) + " holds a NUL");
  }
  values_[index] = value;
  return {};
}

}  // namespace pagein::tar
