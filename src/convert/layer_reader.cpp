#include "convert/layer_reader.h"

#include "base/sha256.h"

namespace pagein::convert {
namespace {

// Where span i ends in the blob.
uint64_t compressed_end(const index::LayerIndex& index, size_t i) {
  return i + 1 < index.spans.size() ? codec::end_byte(index.spans[i + 1].start.compressed_bit)
                                    : index.layer_size;
}

registry::BlobRead compressed_range(const index::LayerIndex& index, size_t first, size_t count) {
  registry::BlobRead read;
  read.digest = index.layer_digest;
  read.blob_size = index.layer_size;
  read.offset = codec::first_byte(index.spans[first].start.compressed_bit);
  read.length = compressed_end(index, first + count - 1) - read.offset;
  read.priority = net::Priority::background;
  return read;
}

// Payloads of adjacent spans follow each other.
uint64_t payload_bytes(const index::LayerIndex& index, size_t first, size_t count) {
  const index::Span& last = index.spans[first + count - 1];
  return last.payload_offset + last.payload_size - index.spans[first].payload_offset;
}

std::optional<registry::PendingRead> begin_payloads(const LayerAccess& layer, size_t first,
                                                    size_t count) {
  registry::BlobRead read;
  read.length = payload_bytes(*layer.index, first, count);
  if (read.length == 0) return std::nullopt;
  read.digest = layer.location.digest;
  read.blob_size = layer.location.size;
  read.offset = layer.location.head_size + layer.index->spans[first].payload_offset;
  read.priority = net::Priority::background;
  return registry::PendingRead(*layer.checkpoints, read);
}

}  // namespace

Result<PendingSpans> PendingSpans::begin(const LayerAccess& layer, size_t first, size_t count) {
  const index::LayerIndex& index = *layer.index;
  const uint64_t tar = index.span_end(first + count - 1) - index.spans[first].uncompressed_begin;
  if (tar > kMaxRunBytes || compressed_range(index, first, count).length > kMaxRunBytes ||
      payload_bytes(index, first, count) > kMaxRunBytes) {
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
      payloads_(begin_payloads(layer, first, count)) {}

Result<Bytes> PendingSpans::wait(codec::SpanStream& decoder) {
  const index::LayerIndex& index = *layer_.index;
  Bytes payloads;
  if (payloads_) {
    ASSIGN_OR_RETURN(payloads, payloads_->wait());
  }
  ASSIGN_OR_RETURN(const Bytes compressed, compressed_.wait());
  const index::Span& first = index.spans[first_];
  Bytes tar(index.span_end(first_ + count_ - 1) - first.uncompressed_begin);
  // Each from its own checkpoint: not all kinds let a decoder go on into the next span.
  for (size_t i = first_; i < first_ + count_; ++i) {
    const index::Span& span = index.spans[i];
    const uint64_t begin = codec::first_byte(span.start.compressed_bit) -
                           codec::first_byte(first.start.compressed_bit);
    const uint64_t end = compressed_end(index, i) - codec::first_byte(first.start.compressed_bit);
    const std::span<uint8_t> out =
        std::span(tar).subspan(span.uncompressed_begin - first.uncompressed_begin,
                               index.span_end(i) - span.uncompressed_begin);
    const ByteView payload =
        ByteView(payloads).subspan(span.payload_offset - first.payload_offset, span.payload_size);
    RETURN_IF_ERROR(decoder.decode({span.start.kind, span.start.compressed_bit, payload},
                                   ByteView(compressed).subspan(begin, end - begin), out));
    if (sha256(out) != span.digest) {
      return Error(Code::corrupt_input, "layer " + index.layer_digest.str() + ": span " +
                                            std::to_string(i) +
                                            " does not have the digest that its index gives");
    }
  }
  return tar;
}

}  // namespace pagein::convert
