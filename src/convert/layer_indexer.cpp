#include "convert/layer_indexer.h"

#include <algorithm>
#include <optional>
#include <string>
#include <thread>

#include "base/guard.h"
#include "base/sha256.h"
#include "codec/span_indexer.h"
#include "convert/read_some.h"
#include "convert/recycling_queue.h"
#include "index/file_table_builder.h"
#include "tar/stream_reader.h"

namespace pagein::convert {
namespace {

constexpr size_t kReadSize = 256 << 10;
constexpr size_t kBatchSize = 1 << 20;
constexpr size_t kBatches = 6;

constexpr uint64_t kTenThousand = 10000;

// Of what an index may take, this much is for checkpoints inside zstd frames: the
// rest is for the list of files, and for checkpoints that come dearer than was
// to be expected. Where they come much dearer, fewer are tried.
constexpr uint32_t payload_share(uint32_t max_share) { return max_share * 3 / 4; }
constexpr uint32_t lower_payload_share(uint32_t max_share) { return max_share * 3 / 10; }

// A piece of the tar and the checkpoints within it.
struct Batch {
  Batch() { tar.reserve(kBatchSize + (kBatchSize >> 2)); }
  void clear() {
    tar.clear();
    marks.clear();
  }
  Bytes tar;
  struct Mark {
    size_t at;  // in `tar`
    codec::Checkpoint checkpoint;
    Bytes payload;  // of the checkpoint before, where it came late
  };
  std::vector<Mark> marks;
};
using BatchQueue = RecyclingQueue<Batch>;

// What happens to the decoded tar: hashed as a whole and span by span, and
// read for its entries. Confined to the analysing thread until it has ended.
class Analyzer {
 public:
  Analyzer() : reader_(files_) {}

  Status add(const Batch& batch) {
    const ByteView tar(batch.tar);
    size_t at = 0;
    for (const Batch::Mark& mark : batch.marks) {
      RETURN_IF_ERROR(take(tar.subspan(at, mark.at - at)));
      at = mark.at;
      if (!mark.payload.empty() && open_) open_->payload = mark.payload;
      end_span();
      open_ = mark.checkpoint;
    }
    return take(tar.subspan(at));
  }

  Status finish(Bytes last_payload) {
    if (!last_payload.empty() && open_) open_->payload = std::move(last_payload);
    end_span();
    return reader_.finish();
  }

  uint64_t tar_size() const { return reader_.offset(); }
  oci::Digest diff_id() { return oci::Digest(whole_.finish()); }
  index::LayerIndexBuilder& builder() { return builder_; }
  index::FileTableBuilder& files() { return files_; }
  size_t spans() const { return spans_; }

 private:
  Status take(ByteView piece) {
    if (piece.empty()) return {};
    whole_.update(piece);
    span_.update(piece);
    return reader_.feed(piece);
  }
  void end_span() {
    if (!open_) return;
    builder_.add_span(open_->uncompressed_offset, {open_->kind, open_->compressed_bit},
                      open_->payload, span_.finish());
    span_.reset();
    open_.reset();
    ++spans_;
  }

  Sha256 whole_;
  Sha256 span_;
  std::optional<codec::Checkpoint> open_;
  index::LayerIndexBuilder builder_;
  index::FileTableBuilder files_;
  tar::StreamReader reader_;
  size_t spans_ = 0;
};

// Cuts the decoder's output into batches.
class Batcher : public codec::IndexSink {
 public:
  explicit Batcher(BatchQueue& queue) : queue_(queue) {}

  Status on_output(ByteView piece) override {
    RETURN_IF_ERROR(ensure_batch());
    batch_->tar.insert(batch_->tar.end(), piece.begin(), piece.end());
    if (batch_->tar.size() >= kBatchSize) send();
    return {};
  }
  Status on_checkpoint(codec::Checkpoint checkpoint) override {
    RETURN_IF_ERROR(ensure_batch());
    batch_->marks.push_back(
        {batch_->tar.size(), std::move(checkpoint), std::exchange(payload_, {})});
    return {};
  }
  Status on_payload(Bytes payload) override {
    payload_ = std::move(payload);
    return {};
  }
  // That no checkpoint followed.
  Bytes take_payload() { return std::move(payload_); }
  void send() {
    if (batch_) queue_.push(*std::exchange(batch_, std::nullopt));
  }

 private:
  Status ensure_batch() {
    if (batch_) return {};
    batch_ = queue_.take_free();
    if (!batch_) return Error(Code::cancelled, "the layer's analysis has stopped");
    return {};
  }
  BatchQueue& queue_;
  std::optional<Batch> batch_;
  Bytes payload_;  // of the last checkpoint
};

struct Decoded {
  codec::Encoding encoding{};
  uint64_t compressed = 0;
  Bytes last_payload;
};

Result<Decoded> decode(ByteStream& blob, BatchQueue& queue, const IndexLayerOptions& options) {
  Batcher batcher(queue);
  Bytes buffer(kReadSize);
  ASSIGN_OR_RETURN(size_t length, read_at_least(blob, buffer, 4));
  Decoded decoded;
  decoded.encoding = codec::detect_encoding(ByteView(buffer).first(length));
  codec::IndexOptions index_options;
  index_options.spacing = options.spacing;
  index_options.payload_share = options.payload_share;
  ASSIGN_OR_RETURN(auto indexer,
                   codec::make_span_indexer(decoded.encoding, index_options, batcher));
  while (length > 0) {
    if (options.stop != nullptr && options.stop->load(std::memory_order_relaxed)) {
      return Error(Code::cancelled, "stopped");
    }
    RETURN_IF_ERROR(indexer->feed(ByteView(buffer).first(length)));
    decoded.compressed += length;
    if (options.progress) options.progress(decoded.compressed);
    ASSIGN_OR_RETURN(length, blob.read(buffer));
  }
  ASSIGN_OR_RETURN(const codec::IndexSummary summary, indexer->finish());
  decoded.encoding = summary.encoding;
  decoded.last_payload = batcher.take_payload();
  batcher.send();
  return decoded;
}

// Of ten-thousandths: "7.3%".
std::string percent(uint64_t share) {
  return std::to_string(share / 100) + "." + std::to_string(share / 10 % 10) + "%";
}

}  // namespace

Result<IndexedLayer> index_layer(ByteStream& blob, const oci::Descriptor& layer,
                                 const oci::Digest& diff_id, const IndexLayerOptions& options) {
  BatchQueue queue(kBatches);
  Analyzer analyzer;
  Status analysis;
  std::thread thread([&] {
    guard("index-layer", [&] {
      while (auto batch = queue.take_full()) {
        analysis = analyzer.add(*batch);
        if (!analysis.ok()) break;
        queue.give_back(*std::move(batch));
      }
      if (analysis.ok()) return;
      queue.abandon();
    });
  });
  Result<Decoded> decoded = decode(blob, queue, options);
  queue.close();
  thread.join();
  // What the analysis said is the cause where both ended with an error.
  if (!analysis.ok()) return analysis.error();
  if (!decoded.ok()) return decoded.error();
  RETURN_IF_ERROR(analyzer.finish(std::move(decoded->last_payload)));

  IndexedLayer result;
  result.facts.encoding = decoded->encoding;
  result.facts.layer_digest = layer.digest;
  result.facts.layer_size = layer.size;
  result.facts.diff_id = analyzer.diff_id();
  result.facts.tar_size = analyzer.tar_size();
  result.facts.span_spacing = options.spacing;
  if (result.facts.diff_id != diff_id) {
    return Error(Code::corrupt_input, "the layer's tar has diffID " + result.facts.diff_id.str() +
                                          ", but the image's config says " + diff_id.str());
  }
  result.spans = analyzer.spans();
  const index::FileTable files = analyzer.files().finish();
  result.files = files.size();
  ASSIGN_OR_RETURN(result.index, analyzer.builder().finish(result.facts, files));
  return result;
}

uint64_t IndexedLayer::share() const {
  const uint64_t size = index.head.size() + index.checkpoints.size();
  return (size * kTenThousand + facts.layer_size - 1) / facts.layer_size;
}

Result<IndexedLayer> index_layer_within(const BlobOpener& open, const oci::Descriptor& layer,
                                        const oci::Digest& diff_id, uint32_t max_share,
                                        IndexLayerOptions options) {
  uint64_t least = UINT64_MAX;
  for (const uint32_t share : {payload_share(max_share), lower_payload_share(max_share)}) {
    ASSIGN_OR_RETURN(const auto blob, open());
    options.payload_share = share;
    ASSIGN_OR_RETURN(IndexedLayer indexed, index_layer(*blob, layer, diff_id, options));
    if (indexed.index.checkpoints.empty() ||
        indexed.facts.encoding != codec::Encoding::zstd_blocks || indexed.share() <= max_share) {
      return indexed;
    }
    least = std::min(least, indexed.share());
  }
  return Error(Code::unsupported,
               "it is one long zstd frame, and an index of it would take " + percent(least) +
                   " of its size, more than the " + percent(max_share) +
                   " allowed by --max-index-share; a full conversion makes short frames");
}

}  // namespace pagein::convert
