#include "store/presence.h"

#include <xxhash.h>

#include <bit>

#include "base/byte_reader.h"
#include "store/layer_files.h"

namespace pagein::store {
namespace {

// docs/formats/store.md, "present".
struct Header {
  uint8_t magic[8];
  le32 version;
  le32 clean;
  le64 spans;
  le64 checksum;  // XXH3-64 of spans, clean and the words
};
static_assert(sizeof(Header) == 32);
constexpr uint8_t kMagic[8] = {'P', 'G', 'I', 'N', 'P', 'R', 'E', 'S'};
constexpr uint32_t kVersion = 1;

uint64_t checksum(uint64_t spans, uint32_t clean, ByteView words) {
  return XXH3_64bits_withSeed(words.data(), words.size(), spans << 1 | (clean & 1));
}

}  // namespace

Presence::Presence(size_t spans) : spans_(spans), words_((spans + 63) / 64) {}

void Presence::set(size_t span) {
  const uint64_t bit = uint64_t{1} << (span % 64);
  const uint64_t before = words_[span / 64].fetch_or(bit, std::memory_order_release);
  if ((before & bit) == 0) count_.fetch_add(1, std::memory_order_relaxed);
}

void Presence::drop(size_t span) {
  const uint64_t bit = uint64_t{1} << (span % 64);
  const uint64_t before = words_[span / 64].fetch_and(~bit, std::memory_order_release);
  if ((before & bit) != 0) count_.fetch_sub(1, std::memory_order_relaxed);
}

size_t Presence::first_missing(size_t from, size_t end) const {
  while (from < end) {
    const uint64_t missing = ~words_[from / 64].load(std::memory_order_acquire) >> (from % 64);
    if (missing != 0) return std::min(end, from + static_cast<size_t>(std::countr_zero(missing)));
    from = (from / 64 + 1) * 64;
  }
  return end;
}

std::vector<uint64_t> Presence::snapshot() const {
  std::vector<uint64_t> words;
  words.reserve(words_.size());
  for (const auto& word : words_) words.push_back(word.load(std::memory_order_acquire));
  return words;
}

Status Presence::save(const std::filesystem::path& path, size_t spans,
                      const std::vector<uint64_t>& words, Stop stop) {
  ByteWriter body;
  for (const uint64_t word : words) body.u64(word);
  Header header{};
  std::copy(std::begin(kMagic), std::end(kMagic), header.magic);
  header.version = kVersion;
  header.clean = stop == Stop::clean ? 1 : 0;
  header.spans = spans;
  header.checksum = checksum(spans, header.clean, body.buffer());
  ByteWriter file;
  file.structure(header);
  file.bytes(body.buffer());
  return replace_file(path, file.buffer(), 0600);
}

Result<Presence::Stop> Presence::load(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const std::string text,
                   read_small_file(path, sizeof(Header) + words_.size() * 8));
  return parse(as_bytes(text), path.native());
}

Result<Presence::Stop> Presence::parse(ByteView file, std::string_view name) {
  const uint64_t body_size = words_.size() * 8;
  ByteReader reader(file, name);
  ASSIGN_OR_RETURN(const Header header, reader.structure<Header>());
  auto corrupt = [&](std::string_view why) {
    return Error(Code::corrupt_input, std::string(name) + ": " + std::string(why));
  };
  if (!std::equal(std::begin(kMagic), std::end(kMagic), header.magic))
    return corrupt("not a presence map");
  if (header.version != kVersion) return corrupt("unknown version");
  if (header.clean > 1) return corrupt("neither clean nor unclean");
  if (header.spans != spans_) return corrupt("is for another number of spans");
  ASSIGN_OR_RETURN(const ByteView body, reader.take(body_size));
  if (!reader.at_end()) return corrupt("has bytes after its end");
  if (header.checksum != checksum(spans_, header.clean, body)) return corrupt("checksum mismatch");
  size_t count = 0;
  for (size_t i = 0; i < words_.size(); ++i) {
    uint64_t word = load_le<uint64_t>(body.data() + i * 8);
    if (i + 1 == words_.size() && spans_ % 64 != 0) word &= (uint64_t{1} << (spans_ % 64)) - 1;
    words_[i].store(word, std::memory_order_release);
    count += static_cast<size_t>(std::popcount(word));
  }
  count_.store(count, std::memory_order_relaxed);
  return header.clean == 1 ? Stop::clean : Stop::unclean;
}

}  // namespace pagein::store
