// Reads a tar archive in pieces of any size and says what is in it.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "base/file.h"
#include "base/result.h"
#include "tar/entry.h"
#include "tar/header_block.h"
#include "tar/pax.h"
#include "tar/sparse.h"

namespace pagein::tar {

// Takes entries as they come, in the order of the archive, before the content
// of each. An error stops the reader, which returns it. Called on the thread
// that feeds the reader.
class EntrySink {
 public:
  virtual ~EntrySink() = default;
  // `entry` is valid during the call only: the reader uses it again.
  virtual Status on_entry(const Entry& entry) = 0;
};

// Extended headers and long names beyond this are refused (Go's limit too).
inline constexpr uint64_t kMaxSpecialBytes = 1 << 20;
// Of one entry. The kernel's limits: XATTR_NAME_MAX, XATTR_SIZE_MAX.
inline constexpr size_t kMaxXattrNameBytes = 255;
inline constexpr size_t kMaxXattrValueBytes = 64 << 10;
inline constexpr size_t kMaxXattrs = 1024;

// feed() the archive's bytes in order, then finish(). File contents are
// counted, never kept; memory stays below some 8 MiB whatever the archive.
//
// Dialects: v7, ustar, pax, GNU, star. What counts is what containerd would
// unpack, so wherever the dialects leave room this follows Go's archive/tar,
// which containerd reads layers with:
//  - a global pax header has to be made of records, but changes nothing; and
//    what stood before it for the next entry (pax header, long name) is
//    forgotten;
//  - of two extended headers in a row the second counts alone;
//  - GNU long names win over pax paths, GNU.sparse.name over both;
//  - a type between '1' and '6' has no content, whatever its size says;
//  - type NUL is a directory if its name ends with '/', type '0' is not;
//  - two zero blocks, or one at the end, or none at all, end the archive;
//    one zero block before anything else is an error; the last padding may
//    be missing.
// More liberal than containerd: types '7' and 'S' are regular files and 'D' (a
// GNU directory listing) is a directory; 'V' (a volume's label) is read over.
// Every other type is unsupported, as it is there.
//
// Errors are corrupt_input or unsupported and name the offset in the tar;
// after one only destruction is allowed. Never blocks. Thread-compatible.
class StreamReader {
 public:
  // `sink` must outlive the reader.
  explicit StreamReader(EntrySink& sink) : sink_(sink) {}
  StreamReader(const StreamReader&) = delete;
  StreamReader& operator=(const StreamReader&) = delete;

  Status feed(ByteView piece);
  Status finish();

  // Bytes fed so far: after finish() the size of the tar, with whatever
  // follows the end of the archive.
  uint64_t offset() const { return offset_; }

 private:
  // What the next bytes are.
  enum class State : uint8_t {
    header,       // a header block
    special,      // content of a pax header, long name or long link
    old_sparse,   // an extension block of the old GNU sparse map
    sparse_text,  // a block of the 1.0 sparse map
    content,      // of an entry, or to be ignored: content_left_ bytes
    padding,      // up to the next block: padding_left_ bytes
    trailing,     // behind the end of the archive
  };

  Status step(ByteView& piece);
  Status take_block(ByteView& piece);
  void take_special(ByteView& piece);
  void skip(ByteView& piece, uint64_t& left, State next);

  Status on_block(ByteView block);
  Status on_header(ByteView block);
  Status on_member(ByteView block, const HeaderBlock& header);
  Status on_special_end();
  Status on_old_sparse(OldSparseBlock block);
  Status on_sparse_text(ByteView block);

  void begin_special(const HeaderBlock& header);
  void begin_entry(const HeaderBlock& header);
  Status apply_pax();
  Status apply_xattrs();
  Status set_type(char type);
  Status begin_sparse(ByteView block, const HeaderBlock& header);
  Status begin_pax_sparse(char type);
  Status emit();
  void forget_pending();
  Error at_header(const Error& error) const;

  EntrySink& sink_;
  State state_ = State::header;
  bool after_zero_block_ = false;
  uint64_t offset_ = 0;
  uint64_t header_offset_ = 0;  // of the header block last read, for messages
  uint64_t content_left_ = 0;
  uint64_t padding_left_ = 0;
  std::array<uint8_t, kBlockSize> block_{};  // a block that came in pieces
  size_t block_fill_ = 0;

  // For the entry that follows.
  char special_type_ = 0;
  std::string* special_ = nullptr;  // where its content goes: one of the next three
  std::string pax_bytes_;
  std::string long_name_;
  std::string long_link_;
  bool have_pax_ = false;
  PaxRecords pax_;  // views into pax_bytes_

  Entry entry_;
  int64_t declared_size_ = 0;  // of the content in the archive, as the headers say
  SparseMap sparse_map_;
  uint64_t old_map_bytes_ = 0;
  SparseMapText sparse_text_;
};

}  // namespace pagein::tar
