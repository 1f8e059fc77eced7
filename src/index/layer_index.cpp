#include "index/layer_index.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/byte_reader.h"
#include "index/file_table_format.h"
#include "index/layer_index_format.h"
#include "index/section.h"
#include "index/span_table_format.h"

namespace pagein::index {

namespace {

Error bad(std::string_view why) {
  return Error(Code::corrupt_input, "layer index: " + std::string(why));
}

bool is_known_encoding(uint8_t encoding) {
  return encoding <= static_cast<uint8_t>(codec::Encoding::zstd_blocks);
}

Status check_header(const FixedHeader& header) {
  if (as_text(header.magic) != kMagic) return bad("the magic number is not there");
  if (header.version != kVersion) {
    return Error(Code::unsupported, "layer index: version " + std::to_string(header.version) +
                                        "; this build reads version " + std::to_string(kVersion));
  }
  if (!is_known_encoding(header.encoding)) {
    return Error(Code::unsupported, "layer index: layer encoding " +
                                        std::to_string(header.encoding) +
                                        " is unknown to this build");
  }
  if (header.reserved != decltype(header.reserved){}) return bad("reserved bytes are not 0");
  if (header.entry_count > kMaxEntries || header.span_count > kMaxSpans ||
      header.files_raw_size > kMaxRawFilesBytes || header.spans_raw_size > kMaxRawSpansBytes ||
      header.tar_size > kMaxTarBytes || header.layer_size > kMaxLayerBytes) {
    return bad("a count or size in the header is beyond its limit");
  }
  return {};
}

}  // namespace

size_t LayerIndex::span_at(uint64_t uncompressed_offset) const {
  const auto after = std::partition_point(spans.begin(), spans.end(), [&](const Span& span) {
    return span.uncompressed_begin <= uncompressed_offset;
  });
  return static_cast<size_t>(after - spans.begin()) - 1;
}

Result<std::shared_ptr<const LayerIndex>> parse_head(ByteView head) {
  if (head.size() > kMaxHeadBytes) return bad("its head exceeds 256 MiB");
  ByteReader reader(head, "layer index");
  ASSIGN_OR_RETURN(const FixedHeader header, reader.structure<FixedHeader>());
  RETURN_IF_ERROR(check_header(header));
  ASSIGN_OR_RETURN(const ByteView files, reader.take(header.files_size));
  ASSIGN_OR_RETURN(const ByteView spans, reader.take(header.spans_size));
  ASSIGN_OR_RETURN(const ByteView digests,
                   reader.take(uint64_t{header.span_count} * sizeof(Sha256Bytes)));
  if (!reader.at_end()) return bad("bytes behind the last section of its head");

  auto index = std::make_shared<LayerIndex>();
  index->encoding = static_cast<codec::Encoding>(header.encoding);
  index->layer_digest = oci::Digest(header.layer_digest);
  index->layer_size = header.layer_size;
  index->diff_id = oci::Digest(header.diff_id);
  index->tar_size = header.tar_size;
  index->span_spacing = header.span_spacing;
  index->head_size = head.size();

  ASSIGN_OR_RETURN(const Bytes raw_spans,
                   decompress_section(spans, header.spans_raw_size, "spans"));
  ASSIGN_OR_RETURN(index->spans, parse_span_table(raw_spans, digests,
                                                  {.encoding = index->encoding,
                                                   .tar_size = index->tar_size,
                                                   .layer_size = index->layer_size}));
  if (!index->spans.empty()) {
    index->checkpoints_size = index->spans.back().payload_offset + index->spans.back().payload_size;
  }
  ASSIGN_OR_RETURN(const Bytes raw_files,
                   decompress_section(files, header.files_raw_size, "files"));
  ASSIGN_OR_RETURN(index->files, parse_file_table(raw_files, {.entries = header.entry_count,
                                                              .tar_size = index->tar_size}));
  ASSIGN_OR_RETURN(index->layout, DataLayout::build(index->files));
  return index;
}

}  // namespace pagein::index
