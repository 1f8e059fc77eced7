#include "tar/stream_reader.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/byte_reader.h"
#include "tar/numbers.h"

namespace pagein::tar {

namespace {

constexpr char kPaxHeader = 'x';
constexpr char kPaxGlobalHeader = 'g';
constexpr char kGnuLongName = 'L';
constexpr char kGnuLongLink = 'K';
constexpr char kGnuSparse = 'S';
constexpr char kGnuDirectoryListing = 'D';
constexpr char kGnuVolumeLabel = 'V';

bool has_no_content(char type) { return type >= '1' && type <= '6'; }

bool is_special(char type) {
  return type == kPaxHeader || type == kPaxGlobalHeader || type == kGnuLongName ||
         type == kGnuLongLink;
}

uint64_t padding_of(uint64_t size) { return round_up(size, kBlockSize) - size; }

// A number of a pax record; an absent one leaves `out` alone.
bool take_number(std::string_view text, int64_t& out) {
  return text.empty() || parse_decimal(text, out);
}

}  // namespace

Status StreamReader::feed(ByteView piece) {
  while (!piece.empty()) RETURN_IF_ERROR(step(piece));
  return {};
}

Status StreamReader::step(ByteView& piece) {
  switch (state_) {
    case State::header:
    case State::old_sparse:
    case State::sparse_text: return take_block(piece);
    case State::special:
      take_special(piece);
      return content_left_ == 0 ? on_special_end() : Status();
    case State::content: skip(piece, content_left_, State::padding); return {};
    case State::padding: skip(piece, padding_left_, State::header); return {};
    case State::trailing:
      offset_ += piece.size();
      piece = {};
      return {};
  }
  return {};
}

void StreamReader::skip(ByteView& piece, uint64_t& left, State next) {
  const auto count = static_cast<size_t>(std::min<uint64_t>(left, piece.size()));
  left -= count;
  offset_ += count;
  piece = piece.subspan(count);
  if (left == 0) state_ = next;
}

Status StreamReader::take_block(ByteView& piece) {
  if (block_fill_ == 0 && piece.size() >= kBlockSize) {
    const ByteView block = piece.first(kBlockSize);
    piece = piece.subspan(kBlockSize);
    offset_ += kBlockSize;
    return on_block(block);
  }
  const size_t count = std::min<size_t>(kBlockSize - block_fill_, piece.size());
  std::memcpy(block_.data() + block_fill_, piece.data(), count);
  block_fill_ += count;
  offset_ += count;
  piece = piece.subspan(count);
  if (block_fill_ < kBlockSize) return {};
  block_fill_ = 0;
  return on_block(block_);
}

void StreamReader::take_special(ByteView& piece) {
  const auto count = static_cast<size_t>(std::min<uint64_t>(content_left_, piece.size()));
  special_->append(as_text(piece.first(count)));
  content_left_ -= count;
  offset_ += count;
  piece = piece.subspan(count);
}

Status StreamReader::finish() {
  if (state_ == State::padding || state_ == State::trailing) return {};
  if (state_ == State::header && block_fill_ == 0) return {};
  const uint64_t begin = state_ == State::header ? offset_ - block_fill_ : header_offset_;
  return Error(Code::corrupt_input, "tar: ends at byte " + std::to_string(offset_) +
                                        ", inside the entry at byte " + std::to_string(begin) +
                                        "; the layer is truncated");
}

Error StreamReader::at_header(const Error& error) const {
  return error.with_context("tar: entry at byte " + std::to_string(header_offset_));
}

Status StreamReader::on_block(ByteView block) {
  Status status;
  switch (state_) {
    case State::old_sparse:
      if (Result<OldSparseBlock> next = parse_old_sparse_extension(block, sparse_map_); next.ok()) {
        status = on_old_sparse(*next);
      } else {
        status = std::move(next).error();
      }
      break;
    case State::sparse_text: status = on_sparse_text(block); break;
    default:
      header_offset_ = offset_ - kBlockSize;
      status = on_header(block);
      break;
  }
  if (!status.ok()) return at_header(status.error());
  return {};
}

Status StreamReader::on_header(ByteView block) {
  if (is_zero_block(block)) {
    if (after_zero_block_) state_ = State::trailing;
    after_zero_block_ = true;
    return {};
  }
  if (after_zero_block_) {
    return Error(Code::corrupt_input, "a single block of zeros stands before it");
  }
  ASSIGN_OR_RETURN(const HeaderBlock header, parse_header_block(block));
  if (header.size < 0 && !has_no_content(header.type)) {
    return Error(Code::corrupt_input, "its size is negative");
  }
  if (is_special(header.type)) {
    if (static_cast<uint64_t>(header.size) > kMaxSpecialBytes) {
      return Error(Code::corrupt_input, "an extended header or long name of " +
                                            std::to_string(header.size) +
                                            " bytes is beyond the limit of 1 MiB");
    }
    begin_special(header);
    return content_left_ == 0 ? on_special_end() : Status();
  }
  return on_member(block, header);
}

void StreamReader::begin_special(const HeaderBlock& header) {
  special_type_ = header.type;
  special_ = header.type == kGnuLongName   ? &long_name_
             : header.type == kGnuLongLink ? &long_link_
                                           : &pax_bytes_;
  special_->clear();
  content_left_ = static_cast<uint64_t>(header.size);
  padding_left_ = padding_of(content_left_);
  state_ = State::special;
}

Status StreamReader::on_special_end() {
  state_ = padding_left_ > 0 ? State::padding : State::header;
  if (special_type_ == kGnuLongName || special_type_ == kGnuLongLink) {
    special_->resize(std::min(special_->size(), special_->find('\0')));
    return {};
  }
  Result<PaxRecords> records = PaxRecords::parse(as_bytes(pax_bytes_));
  if (!records.ok()) return at_header(records.error());
  pax_ = *std::move(records);
  have_pax_ = true;
  if (special_type_ == kPaxGlobalHeader) forget_pending();
  return {};
}

void StreamReader::forget_pending() {
  if (have_pax_) pax_ = {};
  have_pax_ = false;
  long_name_.clear();
  long_link_.clear();
}

void StreamReader::begin_entry(const HeaderBlock& header) {
  entry_.path.assign(header.prefix);
  if (!header.prefix.empty()) entry_.path += '/';
  entry_.path.append(header.name);
  entry_.link_target.assign(header.link_name);
  entry_.mode = static_cast<uint16_t>(header.mode & 07777);
  entry_.uid = header.uid;
  entry_.gid = header.gid;
  entry_.mtime_sec = header.mtime;
  entry_.mtime_nsec = 0;
  entry_.dev_major = header.dev_major;
  entry_.dev_minor = header.dev_minor;
  entry_.xattrs.clear();
  entry_.sparse = false;
  entry_.segments.clear();
  declared_size_ = header.size;
}

Status StreamReader::apply_pax() {
  if (const std::string_view path = pax_[PaxKey::path]; !path.empty()) entry_.path.assign(path);
  if (const std::string_view link = pax_[PaxKey::linkpath]; !link.empty()) {
    entry_.link_target.assign(link);
  }
  bool ok = take_number(pax_[PaxKey::uid], entry_.uid);
  ok = take_number(pax_[PaxKey::gid], entry_.gid) && ok;
  ok = take_number(pax_[PaxKey::size], declared_size_) && ok;
  int64_t ignored_sec = 0;
  uint32_t ignored_nsec = 0;
  for (const PaxKey key : {PaxKey::atime, PaxKey::ctime}) {
    ok = (pax_[key].empty() || parse_pax_time(pax_[key], ignored_sec, ignored_nsec)) && ok;
  }
  const std::string_view mtime = pax_[PaxKey::mtime];
  ok = (mtime.empty() || parse_pax_time(mtime, entry_.mtime_sec, entry_.mtime_nsec)) && ok;
  if (!ok) return Error(Code::corrupt_input, "pax header: a number or time is malformed");
  return apply_xattrs();
}

Status StreamReader::apply_xattrs() {
  entry_.xattrs.clear();
  if (pax_.xattrs().empty()) return {};
  std::vector<PaxRecords::XattrRef> sorted = pax_.xattrs();
  std::stable_sort(sorted.begin(), sorted.end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  for (size_t i = 0; i < sorted.size(); ++i) {
    const auto& [name, value] = sorted[i];
    if (i + 1 < sorted.size() && sorted[i + 1].first == name) continue;  // the last one counts
    if (name.empty() || name.size() > kMaxXattrNameBytes || value.size() > kMaxXattrValueBytes ||
        entry_.xattrs.size() == kMaxXattrs) {
      return Error(Code::corrupt_input,
                   "extended attributes exceed the kernel's limits (names 1 to 255 bytes, values "
                   "up to 64 KiB, at most 1024 here)");
    }
    entry_.xattrs.push_back({std::string(name), std::string(value)});
  }
  return {};
}

Status StreamReader::set_type(char type) {
  switch (type) {
    case '0':
    case '7':
    case kGnuSparse: entry_.type = EntryType::regular; return {};
    case '\0':
      entry_.type = entry_.path.ends_with('/') ? EntryType::directory : EntryType::regular;
      return {};
    case '1': entry_.type = EntryType::hardlink; return {};
    case '2': entry_.type = EntryType::symlink; return {};
    case '3': entry_.type = EntryType::char_device; return {};
    case '4': entry_.type = EntryType::block_device; return {};
    case '5':
    case kGnuDirectoryListing: entry_.type = EntryType::directory; return {};
    case '6': entry_.type = EntryType::fifo; return {};
    default:
      return Error(Code::unsupported, "entry type " + std::to_string(static_cast<uint8_t>(type)) +
                                          " is none that an image layer may hold");
  }
}

Status StreamReader::on_member(ByteView block, const HeaderBlock& header) {
  begin_entry(header);
  if (have_pax_) RETURN_IF_ERROR(apply_pax());
  if (!long_name_.empty()) entry_.path.assign(long_name_);
  if (!long_link_.empty()) entry_.link_target.assign(long_link_);
  const bool is_label = header.type == kGnuVolumeLabel;
  if (!is_label) RETURN_IF_ERROR(set_type(header.type));

  const bool legacy_directory = header.type == '\0' && entry_.type == EntryType::directory;
  if (has_no_content(header.type) || legacy_directory) declared_size_ = 0;
  if (declared_size_ < 0) return Error(Code::corrupt_input, "its size is negative");
  content_left_ = static_cast<uint64_t>(declared_size_);
  padding_left_ = padding_of(content_left_);
  state_ = State::content;
  if (is_label) {
    forget_pending();
    if (content_left_ == 0) state_ = State::header;
    return {};
  }
  entry_.size = entry_.type == EntryType::regular ? content_left_ : 0;
  return begin_sparse(block, header);
}

Status StreamReader::begin_sparse(ByteView block, const HeaderBlock& header) {
  sparse_map_.clear();
  if (header.type == kGnuSparse) {
    if (header.dialect != Dialect::gnu) {
      return Error(Code::unsupported, "a sparse file in star's own format");
    }
    ASSIGN_OR_RETURN(const int64_t size, old_sparse_real_size(block));
    entry_.size = static_cast<uint64_t>(size);
    entry_.sparse = true;
    ASSIGN_OR_RETURN(const OldSparseBlock next, parse_old_sparse_header(block, sparse_map_));
    old_map_bytes_ = 0;
    return on_old_sparse(next);
  }
  return have_pax_ ? begin_pax_sparse(header.type) : emit();
}

Status StreamReader::begin_pax_sparse(char type) {
  const std::string_view major = pax_[PaxKey::sparse_major];
  const std::string_view minor = pax_[PaxKey::sparse_minor];
  const bool has_map = !pax_[PaxKey::sparse_map].empty() || !pax_.sparse_pairs().empty();
  const bool is_1_0 = major == "1" && minor == "0";
  const bool is_0_x = (major == "0" && (minor == "0" || minor == "1")) ||
                      (major.empty() && minor.empty() && has_map);
  if (!is_1_0 && !is_0_x) return emit();
  if (has_no_content(type) || entry_.type != EntryType::regular) {
    return Error(Code::corrupt_input, "a sparse map on something that is not a regular file");
  }
  if (const std::string_view name = pax_[PaxKey::sparse_name]; !name.empty()) {
    if (name.find('\0') != std::string_view::npos) {
      return Error(Code::corrupt_input, "pax header: GNU.sparse.name holds a NUL");
    }
    entry_.path.assign(name);
  }
  const std::string_view size_text = !pax_[PaxKey::sparse_size].empty()
                                         ? pax_[PaxKey::sparse_size]
                                         : pax_[PaxKey::sparse_real_size];
  int64_t size = declared_size_;
  if (!take_number(size_text, size) || size < 0) {
    return Error(Code::corrupt_input, "pax header: the sparse file's size is malformed");
  }
  entry_.size = static_cast<uint64_t>(size);
  entry_.sparse = true;
  if (is_1_0) {
    sparse_text_.clear();
    if (content_left_ < kBlockSize) {
      return Error(Code::corrupt_input, "sparse map: the content is too short for it");
    }
    state_ = State::sparse_text;
    return {};
  }
  RETURN_IF_ERROR(parse_pax_sparse_map(pax_, sparse_map_));
  return emit();
}

Status StreamReader::on_old_sparse(OldSparseBlock block) {
  if (!block.extended) return emit();
  old_map_bytes_ += kBlockSize;
  if (old_map_bytes_ > kMaxSparseMapBytes) {
    return Error(Code::corrupt_input, "sparse map: longer than 1 MiB");
  }
  state_ = State::old_sparse;
  return {};
}

Status StreamReader::on_sparse_text(ByteView block) {
  content_left_ -= kBlockSize;
  ASSIGN_OR_RETURN(const bool complete, sparse_text_.add_block(block, sparse_map_));
  if (complete) return emit();
  if (content_left_ < kBlockSize) {
    return Error(Code::corrupt_input, "sparse map: the content is too short for it");
  }
  return {};
}

Status StreamReader::emit() {
  if (entry_.sparse) {
    RETURN_IF_ERROR(sparse_map_.check(entry_.size, content_left_));
    entry_.segments = sparse_map_.segments();
    // A map without holes says nothing.
    if (content_left_ == entry_.size) {
      entry_.sparse = false;
      entry_.segments.clear();
    }
  }
  entry_.content_offset = offset_;
  entry_.content_length = entry_.type == EntryType::regular ? content_left_ : 0;
  forget_pending();
  state_ = content_left_ > 0 ? State::content : padding_left_ > 0 ? State::padding : State::header;
  return sink_.on_entry(entry_);
}

}  // namespace pagein::tar
