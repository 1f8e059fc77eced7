#include "tar/sparse.h"

#include <limits>

#include "tar/header_block.h"
#include "tar/numbers.h"

namespace pagein::tar {

namespace {

// GNU tar manual, "Basic Tar Format", struct oldgnu_header and sparse_header.
constexpr size_t kHeaderMap = 386;
constexpr size_t kHeaderSegments = 4;
constexpr size_t kRealSize = 483;
constexpr size_t kExtensionSegments = 21;
constexpr size_t kNumberBytes = 12;
constexpr size_t kSegmentBytes = 2 * kNumberBytes;

Error bad_map(std::string_view why) {
  return Error(Code::corrupt_input, "sparse map: " + std::string(why));
}

Result<OldSparseBlock> parse_old_segments(ByteView array, size_t count, SparseMap& map) {
  for (size_t i = 0; i < count; ++i) {
    const ByteView segment = array.subspan(i * kSegmentBytes, kSegmentBytes);
    if (segment[0] == 0) break;
    int64_t offset = 0;
    int64_t length = 0;
    if (!parse_numeric(segment.first(kNumberBytes), offset) ||
        !parse_numeric(segment.last(kNumberBytes), length)) {
      return bad_map("a number is malformed");
    }
    RETURN_IF_ERROR(map.append(offset, length));
  }
  return OldSparseBlock{.extended = array[count * kSegmentBytes] != 0};
}

// `count` is the number of segments that GNU.sparse.numblocks announces.
bool parse_count(std::string_view text, uint64_t& count) {
  int64_t value = 0;
  if (!parse_decimal(text, value) || value < 0 || value > std::numeric_limits<int64_t>::max() / 2) {
    return false;
  }
  count = static_cast<uint64_t>(value);
  return true;
}

// Cuts the next element off a comma-separated list.
std::string_view next_element(std::string_view& list) {
  const size_t comma = list.find(',');
  const std::string_view element = list.substr(0, comma);
  list.remove_prefix(comma == std::string_view::npos ? list.size() : comma + 1);
  return element;
}

uint64_t element_count(std::string_view list) {
  uint64_t count = list.empty() ? 0 : 1;
  for (const char c : list) count += c == ',' ? 1 : 0;
  return count;
}

}  // namespace

Status SparseMap::append(int64_t offset, int64_t length) {
  if (offset < 0 || length < 0 || offset > std::numeric_limits<int64_t>::max() - length) {
    return bad_map("a segment's offset or length is out of range");
  }
  const auto begin = static_cast<uint64_t>(offset);
  const auto bytes = static_cast<uint64_t>(length);
  if (begin < end_) return bad_map("segments overlap or are out of order");
  // An empty segment still moves the end: nothing may begin before it.
  end_ = begin + bytes;
  if (bytes == 0) return {};
  total_ += bytes;
  if (!segments_.empty() && segments_.back().file_offset + segments_.back().length == begin) {
    segments_.back().length += bytes;
  } else {
    segments_.push_back({begin, bytes});
  }
  return {};
}

Status SparseMap::check(uint64_t size, uint64_t stored) const {
  if (end_ > size) return bad_map("a segment ends beyond the file");
  if (total_ != stored) {
    return bad_map("its segments hold " + std::to_string(total_) + " bytes, the archive has " +
                   std::to_string(stored));
  }
  return {};
}

Result<int64_t> old_sparse_real_size(ByteView header_block) {
  int64_t size = 0;
  if (!parse_numeric(header_block.subspan(kRealSize, kNumberBytes), size) || size < 0) {
    return bad_map("the file's size is malformed");
  }
  return size;
}

Result<OldSparseBlock> parse_old_sparse_header(ByteView header_block, SparseMap& map) {
  return parse_old_segments(header_block.subspan(kHeaderMap), kHeaderSegments, map);
}

Result<OldSparseBlock> parse_old_sparse_extension(ByteView block, SparseMap& map) {
  return parse_old_segments(block, kExtensionSegments, map);
}

Status parse_pax_sparse_map(const PaxRecords& records, SparseMap& map) {
  uint64_t count = 0;
  if (!parse_count(records[PaxKey::sparse_num_blocks], count)) {
    return bad_map("GNU.sparse.numblocks is missing or malformed");
  }
  const std::vector<std::string_view>& pairs = records.sparse_pairs();
  std::string_view list = records[PaxKey::sparse_map];
  const uint64_t numbers = pairs.empty() ? element_count(list) : pairs.size();
  if (numbers != 2 * count) return bad_map("it has not as many segments as announced");
  for (uint64_t i = 0; i < count; ++i) {
    const std::string_view first = pairs.empty() ? next_element(list) : pairs[2 * i];
    const std::string_view second = pairs.empty() ? next_element(list) : pairs[2 * i + 1];
    int64_t offset = 0;
    int64_t length = 0;
    if (!parse_decimal(first, offset) || !parse_decimal(second, length)) {
      return bad_map("a number is malformed");
    }
    RETURN_IF_ERROR(map.append(offset, length));
  }
  return {};
}

void SparseMapText::clear() { *this = SparseMapText(); }

Status SparseMapText::number(SparseMap& map) {
  if (!counted_) {
    uint64_t count = 0;
    if (!parse_count(line_, count)) return bad_map("the number of segments is malformed");
    counted_ = true;
    numbers_left_ = 2 * count;
    return {};
  }
  int64_t value = 0;
  if (!parse_decimal(line_, value)) return bad_map("a number is malformed");
  --numbers_left_;
  if (have_offset_) {
    RETURN_IF_ERROR(map.append(offset_, value));
  } else {
    offset_ = value;
  }
  have_offset_ = !have_offset_;
  return {};
}

Result<bool> SparseMapText::add_block(ByteView block, SparseMap& map) {
  bytes_ += block.size();
  if (bytes_ > kMaxSparseMapBytes) return bad_map("longer than 1 MiB");
  std::string_view text = as_text(block);
  while (numbers_left_ > 0) {
    const size_t newline = text.find('\n');
    line_.append(text.substr(0, newline));
    if (newline == std::string_view::npos) return false;
    text.remove_prefix(newline + 1);
    RETURN_IF_ERROR(number(map));
    line_.clear();
  }
  return true;
}

}  // namespace pagein::tar
