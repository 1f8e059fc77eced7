#include "codec/zstd_checkpoint.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/byte_reader.h"
#include "codec/checkpoint.h"

namespace pagein::codec {
namespace {

enum class Storage : uint8_t { plain = 0, zstd = 1 };
constexpr int kZstdLevel = 9;

constexpr uint32_t kDictionaryMagic = 0xEC30A437;  // RFC 8878, section 5
constexpr uint32_t kDictionaryId = 1;              // frames do not name it
// A tree of two symbols of one bit each, for checkpoints that need none
// (section 4.2.1.1: one weight of 1, the last one follows from it).
constexpr std::array<uint8_t, 2> kAnyHuffman = {128, 0x10};

// In the order in which a dictionary has them.
constexpr std::array<SequenceField, kSequenceFields> kDictionaryOrder = {
    SequenceField::offset, SequenceField::match_length, SequenceField::literal_length};

Error bad(const char* what) {
  return Error(Code::corrupt_input, std::string("checkpoint: ") + what);
}

Bytes content_of(const ZstdCheckpoint& checkpoint) {
  ByteWriter out;
  std::array<const Bytes*, 1 + kSequenceFields> parts = {&checkpoint.entropy.huffman};
  for (size_t i = 0; i < kSequenceFields; ++i) {
    parts[i + 1] = &checkpoint.entropy.tables[static_cast<size_t>(kDictionaryOrder[i])];
  }
  unsigned flags = 0;
  for (size_t i = 0; i < parts.size(); ++i) flags |= parts[i]->empty() ? 0U : 1U << i;
  out.u8(static_cast<uint8_t>(flags));
  for (const Bytes* part : parts) {
    if (part->empty()) continue;
    out.u8(static_cast<uint8_t>(part->size()));
    out.bytes(*part);
  }
  for (const uint64_t offset : checkpoint.entropy.offsets) out.varint(offset);
  out.varint(checkpoint.runs.size());
  uint64_t end = 0;
  for (const WindowRun& run : checkpoint.runs) {
    out.varint(end == 0 ? run.distance : end - run.distance);
    end = run.distance - run.length;
  }
  for (const WindowRun& run : checkpoint.runs) out.varint(run.length);
  out.bytes(checkpoint.bytes);
  return out.take();
}

Result<Bytes> unpack(ByteView payload) {
  if (payload.size() < 2 || payload.size() > kMaxZstdPayloadBytes) {
    return bad("a payload of a size that its kind cannot have");
  }
  const ByteView stored = payload.subspan(1);
  if (payload[0] == static_cast<uint8_t>(Storage::plain)) {
    return Bytes(stored.begin(), stored.end());
  }
  if (payload[0] != static_cast<uint8_t>(Storage::zstd)) {
    return bad("a payload stored in an unknown way");
  }
  const unsigned long long size = ZSTD_getFrameContentSize(stored.data(), stored.size());
  if (size > kMaxZstdContentBytes) return bad("a payload's frame of no known size, or too large");
  Bytes content(size);
  const size_t n = ZSTD_decompress(content.data(), content.size(), stored.data(), stored.size());
  if (ZSTD_isError(n) || n != content.size()) return bad("a payload's broken zstd frame");
  return content;
}

// What is in front of a dictionary's window, without the magic number.
struct Tables {
  std::array<ByteView, 1 + kSequenceFields> parts;
  std::array<uint64_t, 3> offsets{};
};

Result<Tables> read_tables(ByteReader& in) {
  Tables tables;
  ASSIGN_OR_RETURN(const uint8_t flags, in.u8());
  if (flags >= 1U << tables.parts.size()) return bad("unknown flags");
  for (size_t i = 0; i < tables.parts.size(); ++i) {
    if ((flags >> i & 1) == 0) continue;
    ASSIGN_OR_RETURN(const uint8_t size, in.u8());
    ASSIGN_OR_RETURN(tables.parts[i], in.take(size));
  }
  for (uint64_t& offset : tables.offsets) {
    ASSIGN_OR_RETURN(offset, in.varint());
    if (offset == 0 || offset > kMaxZstdWindow) return bad("an offset beyond any window");
  }
  return tables;
}

Bytes dictionary_head(const Tables& tables) {
  static const std::array<Bytes, kSequenceFields> kPredefined = [] {
    std::array<Bytes, kSequenceFields> made;
    for (size_t i = 0; i < kSequenceFields; ++i) {
      made[i] = write_symbol_counts(predefined_counts(kDictionaryOrder[i]));
    }
    return made;
  }();
  ByteWriter out;
  out.u32(kDictionaryMagic);
  out.u32(kDictionaryId);
  out.bytes(tables.parts[0].empty() ? ByteView(kAnyHuffman) : tables.parts[0]);
  for (size_t i = 0; i < kSequenceFields; ++i) {
    out.bytes(tables.parts[i + 1].empty() ? ByteView(kPredefined[i]) : tables.parts[i + 1]);
  }
  for (const uint64_t offset : tables.offsets) out.u32(static_cast<uint32_t>(offset));
  return out.take();
}

// The columns of the runs, read side by side.
struct Runs {
  uint64_t count = 0;
  ByteReader gaps;
  ByteReader lengths;
  ByteReader bytes;
};

Result<Runs> find_runs(ByteReader in) {
  ASSIGN_OR_RETURN(const uint64_t count, in.varint());
  Runs runs{count, in, in, in};
  // Of each run, two varints and a byte.
  if (count > in.remaining() / 3) return bad("more runs than bytes");
  for (uint64_t i = 0; i < count; ++i) RETURN_IF_ERROR(in.varint());
  runs.lengths = in;
  for (uint64_t i = 0; i < count; ++i) RETURN_IF_ERROR(in.varint());
  runs.bytes = in;
  return runs;
}

// `end` is that of the window, which has `window` bytes.
Status place_runs(Runs runs, uint64_t window, uint8_t* end) {
  uint64_t previous = 0;
  for (uint64_t i = 0; i < runs.count; ++i) {
    ASSIGN_OR_RETURN(const uint64_t gap, runs.gaps.varint());
    ASSIGN_OR_RETURN(const uint64_t length, runs.lengths.varint());
    if (i > 0 && gap > previous) return bad("runs out of order");
    const uint64_t distance = i == 0 ? gap : previous - gap;
    if (length == 0 || length > distance || distance > window) {
      return bad("a run that is not before the checkpoint");
    }
    ASSIGN_OR_RETURN(const ByteView bytes, runs.bytes.take(length));
    std::memcpy(end - distance, bytes.data(), bytes.size());
    previous = distance - length;
  }
  return runs.bytes.at_end() ? Status() : bad("bytes behind the last run");
}

}  // namespace

struct ZstdPayloadPacker::Context {
  ZSTD_CCtx* zstd = ZSTD_createCCtx();
  ~Context() { ZSTD_freeCCtx(zstd); }
};

ZstdPayloadPacker::ZstdPayloadPacker() : context_(std::make_unique<Context>()) {
  ZSTD_CCtx_setParameter(context_->zstd, ZSTD_c_compressionLevel, kZstdLevel);
}
ZstdPayloadPacker::~ZstdPayloadPacker() = default;

Result<Bytes> ZstdPayloadPacker::pack(const ZstdCheckpoint& checkpoint) {
  const Bytes content = content_of(checkpoint);
  const auto too_large = [] {
    return Error(Code::unsupported,
                 "what its zstd frames refer back to is too much to be kept (16 MiB and more); a "
                 "full conversion makes short frames");
  };
  if (content.size() > kMaxZstdContentBytes) return too_large();
  Bytes packed(1 + ZSTD_compressBound(content.size()));
  const size_t n = ZSTD_compress2(context_->zstd, packed.data() + 1, packed.size() - 1,
                                  content.data(), content.size());
  if (!ZSTD_isError(n) && n < content.size()) {
    packed[0] = static_cast<uint8_t>(Storage::zstd);
    packed.resize(1 + n);
  } else {
    packed[0] = static_cast<uint8_t>(Storage::plain);
    packed.resize(1 + content.size());
    std::copy(content.begin(), content.end(), packed.begin() + 1);
  }
  if (packed.size() > kMaxZstdPayloadBytes) return too_large();
  packed.shrink_to_fit();
  return packed;
}

Result<ZstdDictionary> make_zstd_dictionary(ByteView payload) {
  ASSIGN_OR_RETURN(const Bytes content, unpack(payload));
  ByteReader in(content, "checkpoint payload");
  ASSIGN_OR_RETURN(const Tables tables, read_tables(in));
  ASSIGN_OR_RETURN(const Runs runs, find_runs(in));
  // libzstd wants the offsets to lie within the dictionary's content.
  uint64_t window = *std::max_element(tables.offsets.begin(), tables.offsets.end());
  if (runs.count > 0) {
    ByteReader gaps = runs.gaps;
    ASSIGN_OR_RETURN(const uint64_t farthest, gaps.varint());
    if (farthest > kMaxZstdWindow) return bad("a run beyond any window");
    window = std::max(window, farthest);
  }
  const Bytes head = dictionary_head(tables);
  ZstdDictionary dictionary{ZeroedMemory(head.size() + window)};
  uint8_t* const memory = dictionary.memory.data();
  std::memcpy(memory, head.data(), head.size());
  RETURN_IF_ERROR(place_runs(runs, window, memory + dictionary.memory.size()));
  return dictionary;
}

}  // namespace pagein::codec
