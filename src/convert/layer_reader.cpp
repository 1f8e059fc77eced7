#include "convert/layer_reader.h"

#include "base/sha256.h"

namespace pagein::convert {
namespace {

registry::BlobRead compressed_range(const index::LayerIndex& index, size_t first, size_t count) {
  registry::BlobRead read;
  read.digest = index.layer_digest;
  read.blob_size = index.layer_size;
  read.offset = codec::first_byte(index.spans[first].start.compressed_bit);
  const size_t next = first + count;
  const uint64_t end = next < index.spans.size()
                           ? codec::end_byte(index.spans[next].start.compressed_bit)
                           : index.layer_size;
  read.length = end - read.offset;
  read.priority = net::Priority::background;
  return read;
}

std::optional<registry::PendingRead> begin_payload(const LayerAccess& layer, size_t first) {
  const index::Span& span = layer.index->spans[first];
  if (span.payload_size == 0) return std::nullopt;
  registry::BlobRead read;
  read.digest = layer.location.digest;
  read.blob_size = layer.location.size;
  read.offset = layer.location.head_size + span.payload_offset;
  read.length = span.payload_size;
  read.priority = net::Priority::background;
  return registry::PendingRead(*layer.checkpoints, read);
}

}  // namespace

Result<PendingSpans> PendingSpans::begin(const LayerAccess& layer, size_t first, size_t count) {
  const index::LayerIndex& index = *layer.index;
  const uint64_t tar = index.span_end(first + count - 1) - index.spans[first].uncompressed_begin;
  if (tar > kMaxRunBytes || compressed_range(index, first, count).length > kMaxRunBytes) {
    return Error(Code::unsupported, "layer " + index.layer_digest.str() +
                                        " has spans that are too long to be read here");
  }
  return PendingSpans(layer, first, count);
}

PendingSpans::PendingSpans(const LayerAccess& layer, size_t first, size_t count)
    : layer_(layer),
      first_(first),
      count_(count),
      compressed_(*layer.layer, compressed_range(*layer.index, first, count)),
      payload_(begin_payload(layer, first)) {}

Result<Bytes> PendingSpans::wait(codec::SpanStream& decoder) {
  const index::LayerIndex& index = *layer_.index;
  Bytes payload;
  if (payload_) {
    ASSIGN_OR_RETURN(payload, payload_->wait());
  }
  ASSIGN_OR_RETURN(const Bytes compressed, compressed_.wait());
  const index::Span& first = index.spans[first_];
  Bytes tar(index.span_end(first_ + count_ - 1) - first.uncompressed_begin);
  RETURN_IF_ERROR(
      decoder.decode({first.start.kind, first.start.compressed_bit, payload}, compressed, tar));
  for (size_t i = first_; i < first_ + count_; ++i) {
    const index::Span& span = index.spans[i];
    const ByteView bytes = ByteView(tar).subspan(span.uncompressed_begin - first.uncompressed_begin,
                                                 index.span_end(i) - span.uncompressed_begin);
    if (sha256(bytes) != span.digest) {
      return Error(Code::corrupt_input, "layer " + index.layer_digest.str() + ": span " +
                                            std::to_string(i) +
                                            " does not have the digest that its index gives");
    }
  }
  return tar;
}

}  // namespace pagein::convert
