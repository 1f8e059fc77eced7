#include "index/span_table_format.h"

#include <algorithm>
#include <array>
#include <string>

#include "base/byte_reader.h"
#include "index/column.h"

namespace pagein::index {

namespace {

enum Column : size_t { kBegins, kPositions, kKinds, kPayloadSizes, kColumnCount };

Error bad(std::string_view why) {
  return Error(Code::corrupt_input, "layer index: spans: " + std::string(why));
}

bool is_kind_of(codec::CheckpointKind kind, codec::Encoding encoding) {
  switch (kind) {
    case codec::CheckpointKind::identity: return encoding == codec::Encoding::identity;
    case codec::CheckpointKind::member_start:
    case codec::CheckpointKind::block_boundary:
    case codec::CheckpointKind::mid_block: return encoding == codec::Encoding::gzip;
    case codec::CheckpointKind::frame_start:
      return encoding == codec::Encoding::zstd || encoding == codec::Encoding::zstd_blocks;
    case codec::CheckpointKind::frame_block: return encoding == codec::Encoding::zstd_blocks;
  }
  return false;
}

// The decoder begins at a byte.
bool is_at_whole_byte(codec::CheckpointKind kind) {
  return kind == codec::CheckpointKind::identity || kind == codec::CheckpointKind::member_start ||
         kind == codec::CheckpointKind::frame_start || kind == codec::CheckpointKind::frame_block;
}

bool may_have_payload(codec::CheckpointKind kind) {
  return kind == codec::CheckpointKind::block_boundary ||
         kind == codec::CheckpointKind::mid_block || kind == codec::CheckpointKind::frame_block;
}

}  // namespace

Status check_spans(std::span<const Span> spans, const SpanTableLimits& limits) {
  if (spans.size() > kMaxSpans) return bad("more than 16 million");
  if (spans.empty() != (limits.tar_size == 0)) return bad("they do not cover the tar");
  uint64_t payload_end = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    const Span& span = spans[i];
    const bool follows = i == 0 ? span.uncompressed_begin == 0
                                : span.uncompressed_begin > spans[i - 1].uncompressed_begin &&
                                      span.start.compressed_bit > spans[i - 1].start.compressed_bit;
    if (!follows || span.uncompressed_begin >= limits.tar_size ||
        span.start.compressed_bit / 8 >= limits.layer_size) {
      return bad("span " + std::to_string(i) + " is out of order or out of range");
    }
    if (!is_kind_of(span.start.kind, limits.encoding) ||
        (is_at_whole_byte(span.start.kind) && span.start.compressed_bit % 8 != 0) ||
        (span.start.kind == codec::CheckpointKind::identity &&
         span.start.compressed_bit / 8 != span.uncompressed_begin)) {
      return bad("span " + std::to_string(i) + " has a start that its encoding does not know");
    }
    if (span.payload_offset != payload_end ||
        span.payload_size > codec::max_payload_bytes(span.start.kind) ||
        (span.payload_size > 0 && !may_have_payload(span.start.kind))) {
      return bad("span " + std::to_string(i) + " has a bad payload");
    }
    payload_end += span.payload_size;
  }
  return {};
}

Bytes write_span_table(std::span<const Span> spans) {
  std::array<ByteWriter, kColumnCount> columns;
  uint64_t begin = 0;
  uint64_t position = 0;
  for (const Span& span : spans) {
    columns[kBegins].varint(span.uncompressed_begin - begin);
    columns[kPositions].varint(span.start.compressed_bit - position);
    columns[kKinds].u8(static_cast<uint8_t>(span.start.kind));
    columns[kPayloadSizes].varint(span.payload_size);
    begin = span.uncompressed_begin;
    position = span.start.compressed_bit;
  }
  ByteWriter out;
  for (const ByteWriter& column : columns) out.u32(static_cast<uint32_t>(column.size()));
  for (ByteWriter& column : columns) out.bytes(column.buffer());
  return out.take();
}

Result<std::vector<Span>> parse_span_table(ByteView bytes, ByteView digests,
                                           const SpanTableLimits& limits) {
  ByteReader reader(bytes, "layer index: spans");
  std::array<uint32_t, kColumnCount> sizes{};
  std::array<ColumnReader, kColumnCount> columns;
  for (uint32_t& size : sizes) {
    ASSIGN_OR_RETURN(size, reader.u32());
  }
  for (size_t i = 0; i < kColumnCount; ++i) {
    ASSIGN_OR_RETURN(const ByteView column, reader.take(sizes[i]));
    columns[i] = ColumnReader(column);
  }
  if (!reader.at_end()) return bad("bytes behind the last column");

  std::vector<Span> spans(digests.size() / sizeof(Sha256Bytes));
  uint64_t begin = 0;
  uint64_t position = 0;
  uint64_t payload_end = 0;
  for (size_t i = 0; i < spans.size(); ++i) {
    Span& span = spans[i];
    const uint64_t begin_step = columns[kBegins].varint();
    const uint64_t position_step = columns[kPositions].varint();
    if (!checked_add(begin, begin_step, &begin) ||
        !checked_add(position, position_step, &position)) {
      return bad("an offset overflows");
    }
    span.uncompressed_begin = begin;
    span.start.compressed_bit = position;
    span.start.kind = static_cast<codec::CheckpointKind>(columns[kKinds].u8());
    span.payload_offset = payload_end;
    span.payload_size = columns[kPayloadSizes].varint32();
    payload_end += span.payload_size;
    std::copy_n(digests.begin() + static_cast<ptrdiff_t>(i * span.digest.size()),
                span.digest.size(), span.digest.begin());
  }
  for (const ColumnReader& column : columns) {
    if (!column.complete()) return bad("a column does not fit the number of spans");
  }
  RETURN_IF_ERROR(check_spans(spans, limits));
  return spans;
}

}  // namespace pagein::index
