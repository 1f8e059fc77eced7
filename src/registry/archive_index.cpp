#include "registry/archive_index.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <vector>

#include "base/byte_reader.h"

namespace pagein::registry {

namespace {

constexpr uint64_t kBlock = 512;
constexpr int kMaxLinkHops = 10;
using Block = std::array<uint8_t, kBlock>;

// Offsets in the ustar header.
constexpr size_t kName = 0, kNameSize = 100;
constexpr size_t kSize = 124, kSizeSize = 12;
constexpr size_t kChecksum = 148, kChecksumSize = 8;
constexpr size_t kType = 156;
constexpr size_t kLink = 157, kLinkSize = 100;
constexpr size_t kMagic = 257;
constexpr size_t kPrefix = 345, kPrefixSize = 155;

Error broken(uint64_t offset, std::string_view why) {
  return Error(Code::corrupt_input,
               "tar header at offset " + std::to_string(offset) + ": " + std::string(why));
}

std::string text_field(const Block& block, size_t offset, size_t size) {
  const auto begin = block.begin() + static_cast<ptrdiff_t>(offset);
  const auto end = begin + static_cast<ptrdiff_t>(size);
  return std::string(begin, std::find(begin, end, 0));
}

// Octal digits, or GNU's base 256 with the top bit set.
std::optional<uint64_t> number_field(const Block& block, size_t offset, size_t size) {
  uint64_t value = 0;
  if (block[offset] & 0x80) {
    if (block[offset] != 0x80) return std::nullopt;
    for (size_t i = 1; i < size; ++i) {
      if (value >> 56) return std::nullopt;
      value = value << 8 | block[offset + i];
    }
    return value;
  }
  bool digits = false;
  for (size_t i = 0; i < size; ++i) {
    const uint8_t c = block[offset + i];
    if (c == 0 || c == ' ') {
      if (digits) break;
      continue;
    }
    if (c < '0' || c > '7' || value >> 60) return std::nullopt;
    value = value << 3 | static_cast<uint64_t>(c - '0');
    digits = true;
  }
  return value;
}

bool checksum_matches(const Block& block) {
  uint64_t sum = 0;
  for (size_t i = 0; i < block.size(); ++i) {
    const bool in_field = i >= kChecksum && i < kChecksum + kChecksumSize;
    sum += in_field ? ' ' : block[i];
  }
  return number_field(block, kChecksum, kChecksumSize) == sum;
}

bool is_zero(const Block& block) {
  return std::all_of(block.begin(), block.end(), [](uint8_t b) { return b == 0; });
}

bool looks_compressed(const Block& block) {
  auto starts = [&](std::initializer_list<uint8_t> magic) {
    return std::equal(magic.begin(), magic.end(), block.begin());
  };
  return starts({0x1f, 0x8b}) || starts({0x28, 0xb5, 0x2f, 0xfd}) || starts({'B', 'Z', 'h'}) ||
         starts({0xfd, '7', 'z', 'X', 'Z'});
}

// "./a//b/" -> "a/b"
std::string normalize(std::string_view path) {
  std::string out;
  for (size_t start = 0; start <= path.size();) {
    const size_t slash = std::min(path.find('/', start), path.size());
    const std::string_view part = path.substr(start, slash - start);
    if (!part.empty() && part != ".") out += (out.empty() ? "" : "/") + std::string(part);
    start = slash + 1;
  }
  return out;
}

// The target of a symlink at `path`, from the archive's root; "" if it leaves it.
std::string link_target(const std::string& path, const ArchiveMember& member) {
  if (!member.symbolic) return normalize(member.link);
  std::vector<std::string> parts;
  auto enter = [&](std::string_view text) {
    for (size_t start = 0; start <= text.size();) {
      const size_t slash = std::min(text.find('/', start), text.size());
      const std::string_view part = text.substr(start, slash - start);
      start = slash + 1;
      if (part.empty() || part == ".") continue;
      if (part != "..") {
        parts.emplace_back(part);
      } else if (!parts.empty()) {
        parts.pop_back();
      }
    }
  };
  const size_t slash = path.rfind('/');
  if (!member.link.starts_with('/') && slash != std::string::npos) enter(path.substr(0, slash));
  enter(member.link);
  std::string out;
  for (const std::string& part : parts) out += (out.empty() ? "" : "/") + part;
  return out;
}

// What pax and GNU records say of the next member.
struct Overrides {
  std::optional<std::string> path;
  std::optional<std::string> link;
  std::optional<uint64_t> size;
};

// "LENGTH KEY=VALUE\n", repeated.
Status parse_pax(std::string_view text, uint64_t offset, Overrides* out) {
  while (!text.empty()) {
    size_t length = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), length);
    const size_t digits = static_cast<size_t>(end - text.data());
    if (error != std::errc() || length <= digits + 1 || length > text.size() ||
        text[digits] != ' ' || text[length - 1] != '\n') {
      return broken(offset, "a pax record is malformed");
    }
    const std::string_view record = text.substr(digits + 1, length - digits - 2);
    text.remove_prefix(length);
    const size_t equals = record.find('=');
    if (equals == std::string_view::npos) return broken(offset, "a pax record has no '='");
    const std::string_view key = record.substr(0, equals);
    const std::string_view value = record.substr(equals + 1);
    if (key == "path") out->path = std::string(value);
    if (key == "linkpath") out->link = std::string(value);
    if (key == "size") {
      uint64_t size = 0;
      const auto parsed = std::from_chars(value.data(), value.data() + value.size(), size);
      if (parsed.ec != std::errc() || parsed.ptr != value.data() + value.size()) {
        return broken(offset, "a pax size is not a number");
      }
      out->size = size;
    }
  }
  return {};
}

class Pass {
 public:
  Pass(const ArchiveIndex::ReadAt& read_at, uint64_t file_size)
      : read_at_(read_at), file_size_(file_size) {}

  Result<std::map<std::string, ArchiveMember>> run() {
    while (file_size_ - at_ >= kBlock) {
      Block block;
      RETURN_IF_ERROR(read_at_(at_, block));
      if (is_zero(block)) break;
      if (!checksum_matches(block)) {
        if (at_ == 0 && looks_compressed(block)) {
          return Error(Code::unsupported, "the archive is compressed; decompress it first");
        }
        return broken(at_, at_ == 0 ? "not a tar archive" : "the checksum does not match");
      }
      RETURN_IF_ERROR(member(block));
    }
    return std::move(members_);
  }

 private:
  Status member(const Block& block) {
    const uint64_t header = at_;
    const std::optional<uint64_t> stated = number_field(block, kSize, kSizeSize);
    if (!stated) return broken(header, "the size is not a number");
    const char type = static_cast<char>(block[kType]);
    const bool extension = type == 'x' || type == 'g' || type == 'L' || type == 'K';
    uint64_t size = *stated;
    if (!extension && overrides_.size) size = *overrides_.size;
    // Only regular files and extensions have contents.
    const bool has_content = extension || type == '0' || type == '\0' || type == '7';
    if (!has_content) size = 0;
    at_ += kBlock;
    if (size > file_size_ - at_) return broken(header, "the file ends within the member");
    if (extension) {
      RETURN_IF_ERROR(read_extension(type, size, header));
    } else {
      RETURN_IF_ERROR(add(block, type, size, header));
      overrides_ = {};
    }
    at_ += std::min(round_up(size, kBlock), file_size_ - at_);
    return {};
  }

  Status read_extension(char type, uint64_t size, uint64_t header) {
    if (type == 'g') return {};
    if (size > kMaxArchiveHeader) return broken(header, "an extended header is too long");
    std::string text(static_cast<size_t>(size), '\0');
    RETURN_IF_ERROR(
        read_at_(at_, std::span<uint8_t>(reinterpret_cast<uint8_t*>(text.data()), text.size())));
    if (type == 'x') return parse_pax(text, header, &overrides_);
    text.resize(std::min(text.find('\0'), text.size()));
    (type == 'L' ? overrides_.path : overrides_.link) = std::move(text);
    return {};
  }

  Status add(const Block& block, char type, uint64_t size, uint64_t header) {
    std::string path = text_field(block, kName, kNameSize);
    const bool ustar = text_field(block, kMagic, 6) == "ustar";
    if (const std::string prefix = text_field(block, kPrefix, kPrefixSize);
        ustar && !prefix.empty()) {
      path = prefix + "/" + path;
    }
    if (overrides_.path) path = *std::move(overrides_.path);
    ArchiveMember out{.offset = at_, .size = size, .link = {}, .symbolic = type == '2'};
    if (type == '1' || type == '2') {
      out.link =
          overrides_.link ? *std::move(overrides_.link) : text_field(block, kLink, kLinkSize);
    } else if (type != '0' && type != '\0' && type != '7') {
      return {};  // folders and devices
    }
    if (members_.size() >= kMaxArchiveMembers) {
      return broken(header, "more than " + std::to_string(kMaxArchiveMembers) + " members");
    }
    members_[normalize(path)] = std::move(out);
    return {};
  }

  const ArchiveIndex::ReadAt& read_at_;
  const uint64_t file_size_;
  uint64_t at_ = 0;
  Overrides overrides_;
  std::map<std::string, ArchiveMember> members_;
};

}  // namespace

Result<ArchiveIndex> ArchiveIndex::read(const ReadAt& read_at, uint64_t file_size) {
  ArchiveIndex out;
  ASSIGN_OR_RETURN(out.members_, Pass(read_at, file_size).run());
  return out;
}

const ArchiveMember* ArchiveIndex::find(const std::string& path) const {
  std::string at = normalize(path);
  for (int hop = 0; hop < kMaxLinkHops; ++hop) {
    const auto it = members_.find(at);
    if (it == members_.end()) return nullptr;
    if (it->second.link.empty()) return &it->second;
    at = link_target(at, it->second);
  }
  return nullptr;
}

}  // namespace pagein::registry
