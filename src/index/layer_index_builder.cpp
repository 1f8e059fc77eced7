#include "index/layer_index_builder.h"

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

Error too_large(std::string_view what) {
  return Error(Code::exhausted, "layer index: " + std::string(what) +
                                    " exceeds what an index can hold; use the layer without one");
}

// The content of every file lies in the tar.
bool fits(const FileTable& files, uint64_t tar_size) {
  for (auto entry = files.entries().rbegin(); entry != files.entries().rend(); ++entry) {
    if (entry->tar_length > 0) return entry->tar_offset + entry->tar_length <= tar_size;
  }
  return true;
}

}  // namespace

void LayerIndexBuilder::add_span(uint64_t uncompressed_begin, const codec::StartPoint& start,
                                 ByteView payload, const Sha256Bytes& digest) {
  Span span;
  span.uncompressed_begin = uncompressed_begin;
  span.start = start;
  span.payload_offset = checkpoints_.size();
  span.payload_size = static_cast<uint32_t>(payload.size());
  span.digest = digest;
  spans_.push_back(span);
  checkpoints_.insert(checkpoints_.end(), payload.begin(), payload.end());
}

Result<EncodedIndex> LayerIndexBuilder::finish(const LayerFacts& facts, const FileTable& files) {
  if (facts.tar_size > kMaxTarBytes || facts.layer_size > kMaxLayerBytes) {
    return too_large("the layer's size");
  }
  if (spans_.size() > kMaxSpans) return too_large("the number of spans");
  RETURN_IF_ERROR(check_spans(
      spans_,
      {.encoding = facts.encoding, .tar_size = facts.tar_size, .layer_size = facts.layer_size}));
  if (!fits(files, facts.tar_size)) {
    return Error(Code::corrupt_input, "layer index: a file's content ends beyond the tar");
  }
  const Bytes raw_files = write_file_table(files);
  const Bytes raw_spans = write_span_table(spans_);
  if (raw_files.size() > kMaxRawFilesBytes) return too_large("the list of files");
  ASSIGN_OR_RETURN(const Bytes stored_files, compress_section(raw_files));
  ASSIGN_OR_RETURN(const Bytes stored_spans, compress_section(raw_spans));

  FixedHeader header{};
  std::copy(kMagic.begin(), kMagic.end(), header.magic.begin());
  header.version = kVersion;
  header.encoding = static_cast<uint8_t>(facts.encoding);
  header.entry_count = static_cast<uint32_t>(files.size());
  header.span_count = static_cast<uint32_t>(spans_.size());
  header.span_spacing = facts.span_spacing;
  header.tar_size = facts.tar_size;
  header.layer_size = facts.layer_size;
  header.diff_id = facts.diff_id.bytes();
  header.layer_digest = facts.layer_digest.bytes();
  header.files_size = static_cast<uint32_t>(stored_files.size());
  header.files_raw_size = static_cast<uint32_t>(raw_files.size());
  header.spans_size = static_cast<uint32_t>(stored_spans.size());
  header.spans_raw_size = static_cast<uint32_t>(raw_spans.size());

  ByteWriter head;
  head.structure(header);
  head.bytes(stored_files);
  head.bytes(stored_spans);
  for (const Span& span : spans_) head.bytes(span.digest);
  if (head.size() > kMaxHeadBytes) return too_large("the head");
  return EncodedIndex{.head = head.take(), .checkpoints = std::move(checkpoints_)};
}

}  // namespace pagein::index
