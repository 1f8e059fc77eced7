// A whole head. So that mutations get past the compression, an input that
// starts with 'R' is a header and raw sections, from which a head is made.

#include <cstring>

#include "base/byte_reader.h"
#include "index/layer_index.h"
#include "index/layer_index_format.h"
#include "index/section.h"
#include "index/test_invariants.h"

namespace {

using namespace pagein;         // NOLINT
using namespace pagein::index;  // NOLINT

Result<Bytes> head_of(ByteView raw) {
  ByteReader reader(raw, "raw");
  ASSIGN_OR_RETURN(FixedHeader header, reader.structure<FixedHeader>());
  ASSIGN_OR_RETURN(const ByteView files, reader.take(header.files_raw_size));
  ASSIGN_OR_RETURN(const ByteView spans, reader.take(header.spans_raw_size));
  ASSIGN_OR_RETURN(const Bytes stored_files, compress_section(files));
  ASSIGN_OR_RETURN(const Bytes stored_spans, compress_section(spans));
  header.files_size = static_cast<uint32_t>(stored_files.size());
  header.spans_size = static_cast<uint32_t>(stored_spans.size());
  ByteWriter out;
  out.structure(header);
  out.bytes(stored_files);
  out.bytes(stored_spans);
  ASSIGN_OR_RETURN(const ByteView digests, reader.take(reader.remaining()));
  out.bytes(digests);
  return out.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  ByteView input(data, size);
  Bytes made;
  if (size > 0 && data[0] == 'R') {
    Result<Bytes> head = head_of(input.subspan(1));
    if (!head.ok()) return 0;
    made = *std::move(head);
    input = made;
  }
  const auto index = parse_head(input);
  if (!index.ok()) return 0;
  require_invariants((*index)->files);
  require_layout((*index)->files, (*index)->layout);
  uint64_t payloads = 0;
  for (size_t i = 0; i < (*index)->spans.size(); ++i) {
    const Span& span = (*index)->spans[i];
    require(span.uncompressed_begin < (*index)->span_end(i), "span order");
    require((*index)->span_at(span.uncompressed_begin) == i, "span_at");
    require(span.payload_offset == payloads, "payload");
    payloads += span.payload_size;
  }
  require(payloads == (*index)->checkpoints_size, "checkpoints size");
  return 0;
}
