#include "startup/elf.h"

#include <algorithm>
#include <optional>

namespace pagein::startup {
namespace {

constexpr size_t kMaxProgramHeaders = 256;
constexpr size_t kMaxDynamic = 64 << 10;  // bytes
constexpr size_t kMaxNeeded = 512;
constexpr size_t kMaxString = 4096;

// p_type and d_tag.
constexpr uint32_t kPtLoad = 1, kPtDynamic = 2, kPtInterp = 3;
constexpr uint64_t kDtNeeded = 1, kDtStrtab = 5, kDtRpath = 15, kDtRunpath = 29;

Error corrupt(std::string_view why) {
  return Error(Code::corrupt_input, "ELF file: " + std::string(why));
}

class Parser {
 public:
  explicit Parser(FileBytes& file) : file_(file) {}

  Result<ElfFile> run() {
    RETURN_IF_ERROR(read_header());
    RETURN_IF_ERROR(read_segments());
    if (dynamic_.size > 0) RETURN_IF_ERROR(read_dynamic());
    return std::move(elf_);
  }

 private:
  struct ProgramHeader {
    uint64_t offset = 0, address = 0, size = 0;  // in the file
  };

  // An unsigned field of 2, 4 or 8 bytes; 0 beyond the end.
  uint64_t field(ByteView bytes, size_t at, size_t size) const {
    if (at + size > bytes.size()) return 0;
    uint64_t value = 0;
    for (size_t i = 0; i < size; ++i) {
      const size_t byte = big_endian_ ? size - 1 - i : i;
      value |= static_cast<uint64_t>(bytes[at + byte]) << (8 * i);
    }
    return value;
  }
  // Where the formats of 32 and of 64 bits differ in place and width.
  uint64_t word(ByteView bytes, size_t at32, size_t at64) const {
    return elf_.is_64 ? field(bytes, at64, 8) : field(bytes, at32, 4);
  }

  Status read_header();
  Status read_segments();
  Status read_dynamic();
  Result<std::string> string_at(uint64_t offset, uint64_t length);
  // Where the byte at `address` lies in the file.
  Result<uint64_t> offset_of(uint64_t address) const;

  FileBytes& file_;
  ElfFile elf_;
  bool big_endian_ = false;
  uint64_t table_ = 0;  // of program headers
  size_t entry_size_ = 0;
  size_t entry_count_ = 0;
  std::vector<ProgramHeader> load_;
  ProgramHeader dynamic_;
};

Status Parser::read_header() {
  ASSIGN_OR_RETURN(const Bytes head, file_.read(0, 64));
  if (head.size() < 4 || head[0] != 0x7f || head[1] != 'E' || head[2] != 'L' || head[3] != 'F') {
    return Error(Code::not_found, "not an ELF file");
  }
  if (head.size() < 52) return corrupt("it ends in its header");
  if (head[4] < 1 || head[4] > 2 || head[5] < 1 || head[5] > 2) return corrupt("unknown class");
  elf_.is_64 = head[4] == 2;
  big_endian_ = head[5] == 2;
  elf_.machine = static_cast<uint16_t>(field(head, 18, 2));
  table_ = word(head, 28, 32);
  entry_size_ = field(head, elf_.is_64 ? 54 : 42, 2);
  entry_count_ = field(head, elf_.is_64 ? 56 : 44, 2);
  if (entry_count_ > kMaxProgramHeaders) return corrupt("too many program headers");
  if (entry_count_ > 0 && entry_size_ < (elf_.is_64 ? 56U : 32U)) {
    return corrupt("program headers that are too short");
  }
  return {};
}

Status Parser::read_segments() {
  const size_t size = entry_size_ * entry_count_;
  ASSIGN_OR_RETURN(const Bytes table, file_.read(table_, size));
  if (table.size() != size) return corrupt("it ends in its program headers");
  for (size_t i = 0; i < entry_count_; ++i) {
    const ByteView entry = ByteView(table).subspan(i * entry_size_, entry_size_);
    const auto type = static_cast<uint32_t>(field(entry, 0, 4));
    ProgramHeader header{word(entry, 4, 8), word(entry, 8, 16), word(entry, 16, 32)};
    if (header.offset > file_.size()) header.offset = header.size = 0;
    header.size = std::min(header.size, file_.size() - header.offset);
    if (type == kPtLoad && header.size > 0) {
      load_.push_back(header);
      elf_.load.push_back({header.offset, header.size});
    } else if (type == kPtDynamic) {
      dynamic_ = header;
    } else if (type == kPtInterp) {
      ASSIGN_OR_RETURN(elf_.interpreter, string_at(header.offset, header.size));
    }
  }
  return {};
}

Result<std::string> Parser::string_at(uint64_t offset, uint64_t length) {
  ASSIGN_OR_RETURN(const Bytes bytes, file_.read(offset, std::min<uint64_t>(length, kMaxString)));
  const auto end = std::find(bytes.begin(), bytes.end(), 0);
  if (end == bytes.end()) return corrupt("a string without end");
  return std::string(bytes.begin(), end);
}

Result<uint64_t> Parser::offset_of(uint64_t address) const {
  for (const ProgramHeader& segment : load_) {
    if (address >= segment.address && address - segment.address < segment.size) {
      return segment.offset + (address - segment.address);
    }
  }
  return corrupt("an address that is not in the file");
}

Status Parser::read_dynamic() {
  ASSIGN_OR_RETURN(const Bytes table,
                   file_.read(dynamic_.offset, std::min<uint64_t>(dynamic_.size, kMaxDynamic)));
  const size_t entry = elf_.is_64 ? 16 : 8;
  uint64_t strings_address = 0;
  std::vector<uint64_t> needed;
  std::optional<uint64_t> rpath;
  std::optional<uint64_t> runpath;
  for (size_t at = 0; at + entry <= table.size(); at += entry) {
    const ByteView item = ByteView(table).subspan(at, entry);
    const uint64_t tag = word(item, 0, 0);
    const uint64_t value = word(item, 4, 8);
    if (tag == 0) break;
    if (tag == kDtStrtab) strings_address = value;
    if (tag == kDtNeeded && needed.size() < kMaxNeeded) needed.push_back(value);
    if (tag == kDtRpath) rpath = value;
    if (tag == kDtRunpath) runpath = value;
  }
  if (needed.empty() && !rpath && !runpath) return {};
  ASSIGN_OR_RETURN(const uint64_t strings, offset_of(strings_address));
  const auto text = [&](uint64_t at) -> Result<std::string> {
    if (at > file_.size()) return corrupt("a string beyond its end");
    return string_at(strings + at, kMaxString);
  };
  for (const uint64_t at : needed) {
    ASSIGN_OR_RETURN(std::string name, text(at));
    if (!name.empty()) elf_.needed.push_back(std::move(name));
  }
  if (runpath) {
    ASSIGN_OR_RETURN(elf_.runpath, text(*runpath));
  } else if (rpath) {
    ASSIGN_OR_RETURN(elf_.rpath, text(*rpath));
  }
  return {};
}

}  // namespace

Result<ElfFile> parse_elf(FileBytes& file) { return Parser(file).run(); }

}  // namespace pagein::startup
