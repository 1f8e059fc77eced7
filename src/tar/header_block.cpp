#include "tar/header_block.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"
#include "tar/numbers.h"

namespace pagein::tar {

namespace {

// Offsets and lengths: POSIX.1-1988 "ustar Interchange Format"; GNU tar manual,
// "Basic Tar Format"; star(5) for the star dialect.
struct Field {
  size_t offset;
  size_t length;
};
constexpr Field kName{0, 100};
constexpr Field kMode{100, 8};
constexpr Field kUid{108, 8};
constexpr Field kGid{116, 8};
constexpr Field kSize{124, 12};
constexpr Field kMtime{136, 12};
constexpr Field kChecksum{148, 8};
constexpr size_t kType = 156;
constexpr Field kLinkName{157, 100};
constexpr Field kMagicVersion{257, 8};
constexpr Field kDevMajor{329, 8};
constexpr Field kDevMinor{337, 8};
constexpr Field kUstarPrefix{345, 155};
constexpr Field kStarPrefix{345, 131};
constexpr Field kStarAtime{476, 12};
constexpr Field kStarCtime{488, 12};
constexpr Field kStarTrailer{508, 4};
constexpr Field kGnuAtime{345, 12};
constexpr Field kGnuCtime{357, 12};

constexpr std::string_view kUstarMagic{"ustar\0", 6};
constexpr std::string_view kGnuMagicVersion{"ustar  \0", 8};
constexpr std::string_view kTrailer{"tar\0", 4};

ByteView field(ByteView block, Field f) { return block.subspan(f.offset, f.length); }

// The checksum counts its own field as spaces.
constexpr int64_t kChecksumAsSpaces = int64_t{8} * ' ';

int64_t unsigned_sum(ByteView block) {
  // Bytes in 16-bit lanes: 64 words of at most 2 * 255 each cannot overflow.
  constexpr uint64_t kEven = 0x00ff00ff00ff00ff;
  uint64_t lanes = 0;
  for (size_t i = 0; i < kBlockSize; i += 8) {
    const uint64_t word = load_le<uint64_t>(block.data() + i);
    lanes += (word & kEven) + (word >> 8 & kEven);
  }
  uint64_t sum = 0;
  for (; lanes != 0; lanes >>= 16) sum += lanes & 0xffff;
  return static_cast<int64_t>(sum);
}

bool checksum_matches(ByteView block) {
  const ByteView stored = field(block, kChecksum);
  int64_t expected = 0;
  if (!parse_octal(stored, expected)) return false;
  int64_t own = 0;
  for (const uint8_t byte : stored) own += byte;
  const int64_t sum = unsigned_sum(block) - own + kChecksumAsSpaces;
  if (sum == expected) return true;
  // Sun's tar summed signed bytes.
  int64_t high = std::count_if(block.begin(), block.end(), [](uint8_t b) { return b >= 0x80; });
  high -= std::count_if(stored.begin(), stored.end(), [](uint8_t b) { return b >= 0x80; });
  return sum - 256 * high == expected;
}

Dialect dialect_of(ByteView block) {
  const std::string_view magic_version = as_text(field(block, kMagicVersion));
  if (magic_version.starts_with(kUstarMagic)) {
    return as_text(field(block, kStarTrailer)) == kTrailer ? Dialect::star : Dialect::ustar;
  }
  return magic_version == kGnuMagicVersion ? Dialect::gnu : Dialect::v7;
}

// GNU headers have atime and ctime where ustar has the prefix. Some writers
// put a prefix there all the same; like Go's reader, take it for one only
// where the times are not numbers and the text is ASCII.
std::string_view prefix_in_gnu_header(ByteView block) {
  int64_t ignored = 0;
  bool times_are_numbers = true;
  for (const Field time : {kGnuAtime, kGnuCtime}) {
    const ByteView bytes = field(block, time);
    if (bytes[0] != 0 && !parse_numeric(bytes, ignored)) times_are_numbers = false;
  }
  if (times_are_numbers) return {};
  const std::string_view prefix = c_string(field(block, kUstarPrefix));
  const bool ascii = std::all_of(prefix.begin(), prefix.end(),
                                 [](char c) { return static_cast<uint8_t>(c) < 0x80; });
  return ascii ? prefix : std::string_view{};
}

}  // namespace

std::string_view c_string(ByteView bytes) {
  const std::string_view text = as_text(bytes);
  return text.substr(0, text.find('\0'));
}

bool is_zero_block(ByteView block) {
  return block[0] == 0 && std::memcmp(block.data(), block.data() + 1, block.size() - 1) == 0;
}

Result<HeaderBlock> parse_header_block(ByteView block) {
  if (!checksum_matches(block)) {
    return Error(Code::corrupt_input, "not a tar header: its checksum does not match");
  }
  HeaderBlock header;
  bool ok = true;
  auto number = [&](Field f, int64_t& out) { ok = parse_numeric(field(block, f), out) && ok; };
  header.dialect = dialect_of(block);
  header.type = static_cast<char>(block[kType]);
  header.name = c_string(field(block, kName));
  header.link_name = c_string(field(block, kLinkName));
  number(kMode, header.mode);
  number(kUid, header.uid);
  number(kGid, header.gid);
  number(kSize, header.size);
  number(kMtime, header.mtime);
  if (header.dialect != Dialect::v7) {
    number(kDevMajor, header.dev_major);
    number(kDevMinor, header.dev_minor);
  }
  int64_t ignored = 0;
  switch (header.dialect) {
    case Dialect::v7: break;
    case Dialect::ustar: header.prefix = c_string(field(block, kUstarPrefix)); break;
    case Dialect::star:
      header.prefix = c_string(field(block, kStarPrefix));
      number(kStarAtime, ignored);
      number(kStarCtime, ignored);
      break;
    case Dialect::gnu: header.prefix = prefix_in_gnu_header(block); break;
  }
  if (!ok) return Error(Code::corrupt_input, "a number in the tar header is malformed");
  return header;
}

}  // namespace pagein::tar
