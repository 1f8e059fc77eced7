#include "codec/zstd_blocks.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "base/endian.h"

namespace pagein::codec {
namespace {

Error bad(const char* what) { return Error(Code::corrupt_input, std::string("zstd: ") + what); }

uint64_t load_bytes(ByteView bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) value |= uint64_t{bytes[i]} << (8 * i);
  return value;
}

// Bits from a stream's end towards its beginning (RFC 8878, section 4.1). Reads
// memory up to 16 bytes before it and 8 behind it.
class BackwardBits {
 public:
  // The last byte's highest set bit marks the end.
  bool begin(ByteView stream) {
    if (stream.empty() || stream.back() == 0) return false;
    data_ = stream.data();
    left_ = static_cast<int64_t>(stream.size() - 1) * 8 + std::bit_width(stream.back()) - 1;
    return true;
  }
  // At most 57 bits. Beyond the beginning: anything, and left() is negative.
  uint64_t read(unsigned n) {
    left_ -= n;
    uint64_t word;
    std::memcpy(&word, data_ + (left_ >> 3), sizeof(word));
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    return word >> (left_ & 7) & ((uint64_t{1} << n) - 1);
  }
  int64_t left() const { return left_; }

 private:
  const uint8_t* data_ = nullptr;
  int64_t left_ = 0;
};

}  // namespace

Result<ZstdBlockHeader> parse_zstd_block_header(ByteView bytes) {
  const auto word = static_cast<uint32_t>(load_bytes(bytes.first(kZstdBlockHeader)));
  ZstdBlockHeader header;
  header.last = (word & 1) != 0;
  if ((word >> 1 & 3) == 3) return bad("a block of a reserved type");
  header.type = static_cast<ZstdBlockHeader::Type>(word >> 1 & 3);
  header.size = word >> 3;
  if (header.size > kZstdMaxBlock) return bad("a block of more than 128 KiB");
  return header;
}

size_t zstd_frame_header_bytes(uint8_t descriptor) {
  static constexpr std::array<size_t, 4> kDictionaryId = {0, 1, 2, 4};
  static constexpr std::array<size_t, 4> kContentSize = {0, 2, 4, 8};
  const bool single = (descriptor & 0x20) != 0;
  const size_t content = kContentSize[descriptor >> 6];
  return 1 + (single ? 0 : 1) + kDictionaryId[descriptor & 3] +
         (single && content == 0 ? 1 : content);
}

Result<ZstdFrameHeader> parse_zstd_frame_header(ByteView bytes) {
  const uint8_t descriptor = bytes[0];
  const bool single = (descriptor & 0x20) != 0;
  ZstdFrameHeader header;
  header.checksum = (descriptor & 4) != 0;
  header.bytes = zstd_frame_header_bytes(descriptor);
  if ((descriptor & 8) != 0) return bad("a frame with a reserved flag");
  if (single) {
    const size_t dictionary = size_t{(descriptor & 3) == 3 ? 4U : descriptor & 3U};
    const ByteView content = bytes.first(header.bytes).subspan(1 + dictionary);
    header.window = load_bytes(content) + (content.size() == 2 ? 256 : 0);
  } else {
    const uint64_t base = uint64_t{1} << (10 + (bytes[1] >> 3));
    header.window = base + base / 8 * (bytes[1] & 7);
  }
  return header;
}

void ZstdBlockWalker::begin_frame(uint64_t tar_offset, uint64_t window) {
  frame_begin_ = position_ = tar_offset;
  window_ = window;
  offsets_ = {1, 4, 8};
  huffman_.clear();
  huffman_asked_ = true;
  for (Field& field : fields_) {
    field.known = field.rle = false;
    field.asked = true;
  }
}

Status ZstdBlockWalker::parse(ByteView content) {
  content_ = content;
  RETURN_IF_ERROR(parse_literals());
  return parse_sequences();
}

// Section 3.1.1.3.1.
Status ZstdBlockWalker::parse_literals() {
  new_huffman_ = {};
  treeless_ = false;
  if (content_.empty()) return bad("an empty block");
  const unsigned type = content_[0] & 3;
  const unsigned format = content_[0] >> 2 & 3;
  if (type < 2) {  // raw, RLE
    const size_t header = (format & 1) == 0 ? 1 : format == 1 ? 2 : 3;
    if (content_.size() < header) return bad("a block that ends in its literals");
    const uint64_t word = load_bytes(content_.first(header));
    literals_ = static_cast<uint32_t>(word >> (header == 1 ? 3 : 4));
    literals_bytes_ = header + (type == 0 ? literals_ : 1);
  } else {
    const size_t header = format < 2 ? 3 : format + 2;
    const unsigned width = format < 2 ? 10 : format == 2 ? 14 : 18;
    if (content_.size() < header) return bad("a block that ends in its literals");
    const uint64_t word = load_bytes(content_.first(header)) >> 4;
    const uint64_t mask = (uint64_t{1} << width) - 1;
    literals_ = static_cast<uint32_t>(word & mask);
    literals_bytes_ = header + (word >> width & mask);
    treeless_ = type == 3;
    if (!treeless_ && content_.size() > header) {
      const uint8_t tree = content_[header];  // section 4.2.1
      const size_t size = 1 + (tree < 128 ? tree : (tree - 126) / 2);
      if (header + size > literals_bytes_ || literals_bytes_ > content_.size()) {
        return bad("a Huffman tree that is cut off");
      }
      new_huffman_ = content_.subspan(header, size);
    }
  }
  if (literals_bytes_ > content_.size() || literals_ > kZstdMaxBlock) {
    return bad("a block that ends in its literals");
  }
  return {};
}

// Section 3.1.1.3.2.1.
Status ZstdBlockWalker::parse_sequences() {
  ByteView rest = content_.subspan(literals_bytes_);
  sequences_ = 0;
  if (rest.empty()) return bad("a block without sequences section");
  const uint8_t first = rest[0];
  const size_t header = first < 128 ? 1 : first < 255 ? 2 : 3;
  if (rest.size() < header) return bad("a block that ends in its sequences");
  sequences_ = first < 128   ? first
               : first < 255 ? (first - 128U) << 8 | rest[1]
                             : rest[1] + (uint32_t{rest[2]} << 8) + 0x7F00;
  rest = rest.subspan(header);
  if (sequences_ == 0) return rest.empty() ? Status() : bad("bytes behind a block's end");
  if (rest.empty() || (rest[0] & 3) != 0) return bad("a block with reserved table modes");
  const uint8_t modes = rest[0];
  rest = rest.subspan(1);
  for (const SequenceField f : kAllSequenceFields) {
    modes_[static_cast<size_t>(f)] = static_cast<Mode>(modes >> (6 - 2 * static_cast<int>(f)) & 3);
    RETURN_IF_ERROR(parse_table(f, &rest));
  }
  bitstream_ = rest;
  return {};
}

Status ZstdBlockWalker::parse_table(SequenceField f, ByteView* rest) {
  Described& described = described_[static_cast<size_t>(f)];
  switch (modes_[static_cast<size_t>(f)]) {
    case Mode::predefined: return {};
    case Mode::repeat: return field(f).known ? Status() : bad("a table repeated that never was");
    case Mode::rle:
      if (rest->empty()) return bad("a block that ends in its tables");
      described.symbol = rest->front();
      *rest = rest->subspan(1);
      return {};
    case Mode::described: break;
  }
  size_t used = 0;
  ASSIGN_OR_RETURN(described.counts, read_symbol_counts(f, *rest, &used));
  described.bytes = rest->first(used);
  *rest = rest->subspan(used);
  return {};
}

bool ZstdBlockWalker::can_start_here() const {
  for (size_t i = 0; i < kSequenceFields; ++i) {
    const bool replaced = sequences_ > 0 && modes_[i] != Mode::repeat;
    if (fields_[i].known && fields_[i].rle && !replaced) return false;
  }
  return true;
}

bool ZstdBlockWalker::has_rle_table() const {
  return std::any_of(fields_.begin(), fields_.end(),
                     [](const Field& field) { return field.known && field.rle; });
}

void ZstdBlockWalker::begin_entropy() {
  entropy_ = {};
  entropy_.offsets = offsets_;
  huffman_asked_ = huffman_.empty();
  for (Field& field : fields_) field.asked = !field.known;
}

// The block uses the table in force, or replaces it: the first to do either
// decides whether a checkpoint has to bring it.
void ZstdBlockWalker::ask_for(SequenceField f) {
  Field& in_force = field(f);
  if (std::exchange(in_force.asked, true)) return;
  const auto i = static_cast<size_t>(f);
  if (modes_[i] == Mode::repeat) entropy_.tables[i] = in_force.description;
}

Result<uint32_t> ZstdBlockWalker::execute(ZstdWindow& window) {
  if (treeless_) {
    if (huffman_.empty()) return bad("literals without a Huffman tree");
    if (!std::exchange(huffman_asked_, true)) entropy_.huffman = huffman_;
  } else if (!new_huffman_.empty()) {
    huffman_asked_ = true;
    huffman_.assign(new_huffman_.begin(), new_huffman_.end());
  }
  if (sequences_ == 0) {
    position_ += literals_;
    return literals_;
  }
  for (const SequenceField f : kAllSequenceFields) {
    ask_for(f);
    const auto i = static_cast<size_t>(f);
    Field& in_force = fields_[i];
    switch (modes_[i]) {
      case Mode::repeat: continue;
      case Mode::rle:
        if (!in_force.table.build_rle(f, described_[i].symbol)) return bad("an unknown code");
        break;
      case Mode::predefined:
        in_force.table.build(f, predefined_counts(f));
        in_force.description = write_symbol_counts(predefined_counts(f));
        break;
      case Mode::described:
        in_force.table.build(f, *described_[i].counts);
        in_force.description.assign(described_[i].bytes.begin(), described_[i].bytes.end());
        break;
    }
    in_force.known = true;
    in_force.rle = modes_[i] == Mode::rle;
  }
  return run_sequences(window);
}

// Sections 3.1.1.3.2.1.2 and 3.1.1.5. All reads of one sequence are at most 89
// bits, so that one check behind each keeps them within the slack.
Result<uint32_t> ZstdBlockWalker::run_sequences(ZstdWindow& window) {
  BackwardBits bits;
  if (!bits.begin(bitstream_)) return bad("a block without sequence bits");
  const SequenceTable& literal_table = field(SequenceField::literal_length).table;
  const SequenceTable& offset_table = field(SequenceField::offset).table;
  const SequenceTable& match_table = field(SequenceField::match_length).table;
  uint64_t literal_state = bits.read(literal_table.log());
  uint64_t offset_state = bits.read(offset_table.log());
  uint64_t match_state = bits.read(match_table.log());
  auto [last0, last1, last2] = offsets_;
  uint64_t position = position_;
  uint64_t literals = 0;
  const uint64_t end = position_ + kZstdMaxBlock;
  for (uint32_t left = sequences_; left > 0; --left) {
    const SequenceCell literal = literal_table.cells()[literal_state];
    const SequenceCell offset_cell = offset_table.cells()[offset_state];
    const SequenceCell match = match_table.cells()[match_state];
    const uint64_t value = offset_cell.baseline + bits.read(offset_cell.extra_bits);
    const uint64_t match_length = match.baseline + bits.read(match.extra_bits);
    const uint64_t literal_length = literal.baseline + bits.read(literal.extra_bits);
    if (left > 1) {
      literal_state = literal.next + bits.read(literal.state_bits);
      match_state = match.next + bits.read(match.state_bits);
      offset_state = offset_cell.next + bits.read(offset_cell.state_bits);
    }
    if (bits.left() < 0) return bad("a block whose sequence bits end early");

    uint64_t offset = last0;
    if (value > 3) {
      offset = value - 3;
      last2 = last1;
      last1 = last0;
      last0 = offset;
    } else if (const uint64_t which = value - (literal_length > 0 ? 1 : 0); which > 0) {
      offset = which == 1 ? last1 : which == 2 ? last2 : last0 - 1;
      if (which > 1) last2 = last1;
      last1 = last0;
      last0 = offset;
    }
    literals += literal_length;
    position += literal_length;
    if (offset == 0 || offset > position - frame_begin_ || offset > window_ || position > end) {
      return bad("a sequence that refers beyond the window");
    }
    window.touch(position - offset, match_length);
    position += match_length;
  }
  if (bits.left() != 0) return bad("a block with sequence bits left over");
  if (literals > literals_) return bad("a block with too few literals");
  position += literals_ - literals;
  if (position > end) return bad("a block of more than 128 KiB");
  const auto yields = static_cast<uint32_t>(position - position_);
  position_ = position;
  offsets_ = {last0, last1, last2};
  return yields;
}

}  // namespace pagein::codec
