#include "convert/layer_encoder.h"

#include <algorithm>
#include <optional>
#include <thread>

#include "base/guard.h"
#include "codec/seek_table.h"
#include "codec/span_indexer.h"
#include "convert/chunk_cutter.h"
#include "convert/read_some.h"
#include "convert/recycling_queue.h"
#include "index/file_table_builder.h"
#include "tar/stream_reader.h"

namespace pagein::convert {
namespace {

constexpr size_t kReadSize = 256 << 10;
constexpr size_t kBatchSize = 1 << 20;
constexpr size_t kBatches = 4;

struct Batch {
  Batch() { tar.reserve(kBatchSize + (kBatchSize >> 1)); }
  void clear() { tar.clear(); }
  Bytes tar;
};
using BatchQueue = RecyclingQueue<Batch>;

Error stopped_elsewhere() { return Error(Code::cancelled, "the layer's conversion has stopped"); }

// Collects the decoder's output.
class Batcher final : public codec::OutputSink {
 public:
  explicit Batcher(BatchQueue& queue) : queue_(queue) {}
  Status on_output(ByteView piece) override {
    if (!batch_) batch_ = queue_.take_free();
    if (!batch_) return stopped_elsewhere();
    batch_->tar.insert(batch_->tar.end(), piece.begin(), piece.end());
    if (batch_->tar.size() >= kBatchSize) send();
    return {};
  }
  void send() {
    if (batch_) queue_.push(*std::exchange(batch_, std::nullopt));
  }

 private:
  BatchQueue& queue_;
  std::optional<Batch> batch_;
};

// Hashes the tar, reads its entries and cuts it into chunks. Confined to its
// thread until that has ended.
class Cutter final : private tar::EntrySink {
 public:
  Cutter(ChunkLine& line, EncodePool& pool, uint64_t target)
      : line_(line), pool_(pool), cutter_(target), reader_(*this) {}

  Status add(ByteView piece) {
    whole_.update(piece);
    uint64_t at = reader_.offset();
    RETURN_IF_ERROR(reader_.feed(piece));
    cutter_.on_read(reader_.offset());
    for (const uint64_t cut : cutter_.take_cuts()) {
      const auto n = static_cast<size_t>(cut - at);
      RETURN_IF_ERROR(fill(piece.first(n)));
      submit();
      piece = piece.subspan(n);
      at = cut;
    }
    return fill(piece);
  }

  Status finish() {
    RETURN_IF_ERROR(reader_.finish());
    // A blob has at least one member or frame, be it empty.
    if (submitted_ == 0) RETURN_IF_ERROR(ensure_chunk());
    submit();
    return {};
  }

  uint64_t tar_size() const { return reader_.offset(); }
  oci::Digest diff_id() { return oci::Digest(whole_.finish()); }
  index::FileTable files() { return files_.finish(); }

 private:
  Status on_entry(const tar::Entry& entry) override {
    if (entry.content_length > 0) cutter_.on_content(entry.content_offset, entry.content_length);
    return files_.add(entry);
  }
  Status ensure_chunk() {
    if (chunk_ != nullptr) return {};
    chunk_ = line_.take_free();
    if (chunk_ == nullptr) return stopped_elsewhere();
    chunk_->begin = chunk_begin_;
    return {};
  }
  Status fill(ByteView piece) {
    if (piece.empty()) return {};
    RETURN_IF_ERROR(ensure_chunk());
    chunk_->tar.insert(chunk_->tar.end(), piece.begin(), piece.end());
    return {};
  }
  void submit() {
    if (chunk_ == nullptr) return;
    chunk_begin_ += chunk_->tar.size();
    ++submitted_;
    pool_.submit(&line_, std::exchange(chunk_, nullptr));
  }

  ChunkLine& line_;
  EncodePool& pool_;
  ChunkCutter cutter_;
  index::FileTableBuilder files_;
  tar::StreamReader reader_;
  Sha256 whole_;
  Chunk* chunk_ = nullptr;
  uint64_t chunk_begin_ = 0;
  uint64_t submitted_ = 0;
};

// Writes one encoding and keeps its spans. Confined to the writing thread
// until that has ended.
class TargetWriter {
 public:
  explicit TargetWriter(const EncodeTarget& target) : target_(target) {}

  Status add(const Chunk& chunk, const Bytes& encoded) {
    if (!chunk.tar.empty()) {
      const codec::StartPoint start{codec::chunk_kind(target_.encoding),
                                    target_.writer->bytes_written() * 8};
      spans_.add_span(chunk.begin, start, {}, chunk.digest);
      ++count_;
    }
    if (target_.encoding == codec::Encoding::zstd) {
      RETURN_IF_ERROR(seek_table_.add(encoded.size(), chunk.tar.size()));
    }
    return target_.writer->write(encoded);
  }

  Status finish() {
    if (target_.encoding != codec::Encoding::zstd) return {};
    return target_.writer->write(seek_table_.finish());
  }

  // `facts` are those of the tar.
  Result<EncodedLayer> commit(index::LayerFacts facts, const index::FileTable& files) {
    ASSIGN_OR_RETURN(const oci::Descriptor stored, target_.writer->commit(std::nullopt));
    facts.encoding = target_.encoding;
    facts.layer_digest = stored.digest;
    facts.layer_size = stored.size;
    EncodedLayer layer;
    layer.facts = facts;
    ASSIGN_OR_RETURN(layer.index, spans_.finish(facts, files));
    return layer;
  }

  size_t spans() const { return count_; }

 private:
  const EncodeTarget target_;
  index::LayerIndexBuilder spans_;
  codec::SeekTable seek_table_;
  size_t count_ = 0;
};

Status decode(ByteStream& blob, BatchQueue& queue, const EncodeLayerOptions& options) {
  Batcher batcher(queue);
  Bytes buffer(kReadSize);
  ASSIGN_OR_RETURN(size_t length, read_at_least(blob, buffer, 4));
  const auto decoder =
      codec::make_decoder(codec::detect_encoding(ByteView(buffer).first(length)), batcher);
  uint64_t compressed = 0;
  while (length > 0) {
    if (options.stop != nullptr && options.stop->load(std::memory_order_relaxed)) {
      return Error(Code::cancelled, "stopped");
    }
    RETURN_IF_ERROR(decoder->feed(ByteView(buffer).first(length)));
    compressed += length;
    if (options.progress) options.progress(compressed);
    ASSIGN_OR_RETURN(length, blob.read(buffer));
  }
  const auto summary = decoder->finish();
  if (!summary.ok()) return summary.error();
  batcher.send();
  return {};
}

// The three threads of one layer.
class Pass {
 public:
  Pass(EncodePool& pool, const std::vector<EncodeTarget>& targets,
       const EncodeLayerOptions& options)
      : options_(options),
        queue_(kBatches),
        line_(std::max<size_t>(options.chunks_in_flight, 2)),
        cutter_(line_, pool, options.chunk) {
    for (const EncodeTarget& target : targets) writers_.emplace_back(target);
  }

  Status run(ByteStream& blob) {
    std::thread cutting([this] { guard("cut-layer", [this] { cut(); }); });
    std::thread writing([this] { guard("write-layer", [this] { write(); }); });
    decoded_ = decode(blob, queue_, options_);
    queue_.close();
    cutting.join();
    writing.join();
    return outcome();
  }

  Result<EncodedLayers> commit(const oci::Digest& diff_id) {
    index::LayerFacts facts;
    facts.diff_id = cutter_.diff_id();
    facts.tar_size = cutter_.tar_size();
    facts.span_spacing = options_.chunk;
    if (facts.diff_id != diff_id) {
      return Error(Code::corrupt_input, "the layer's tar has diffID " + facts.diff_id.str() +
                                            ", but the image's config says " + diff_id.str());
    }
    const index::FileTable files = cutter_.files();
    EncodedLayers result;
    result.tar_size = facts.tar_size;
    result.files = files.size();
    result.spans = writers_.front().spans();
    for (TargetWriter& writer : writers_) {
      ASSIGN_OR_RETURN(EncodedLayer layer, writer.commit(facts, files));
      result.targets.push_back(std::move(layer));
    }
    return result;
  }

 private:
  void cut() {
    while (auto batch = queue_.take_full()) {
      cut_ = cutter_.add(batch->tar);
      if (!cut_.ok()) break;
      queue_.give_back(*std::move(batch));
    }
    if (cut_.ok()) cut_ = cutter_.finish();
    else queue_.abandon();
    line_.close();
  }

  void write() {
    while (Chunk* chunk = line_.take_done()) {
      if (written_.ok()) {
        written_ = write_chunk(*chunk);
        if (!written_.ok()) line_.abandon();
      }
      line_.give_back(chunk);
    }
    for (TargetWriter& writer : writers_) {
      if (written_.ok()) written_ = writer.finish();
    }
  }

  Status write_chunk(const Chunk& chunk) {
    RETURN_IF_ERROR(chunk.status);
    for (size_t i = 0; i < writers_.size(); ++i) {
      RETURN_IF_ERROR(writers_[i].add(chunk, chunk.encoded[i]));
    }
    return {};
  }

  // The cause, where one thread's error ended the others.
  Status outcome() const {
    if (!written_.ok()) {
      // Not the layer's fault, so never a reason to leave it.
      if (written_.error().code != Code::unsupported) return written_;
      return Error(Code::internal, written_.error().message);
    }
    if (!decoded_.ok() && decoded_.error().code != Code::cancelled) return decoded_;
    const bool stopped = options_.stop != nullptr && options_.stop->load();
    return stopped || cut_.ok() ? decoded_ : cut_;
  }

  const EncodeLayerOptions& options_;
  BatchQueue queue_;
  ChunkLine line_;
  Cutter cutter_;
  std::vector<TargetWriter> writers_;
  Status decoded_;
  Status cut_;
  Status written_;
};

}  // namespace

Result<EncodedLayers> encode_layer(ByteStream& blob, const oci::Digest& diff_id, EncodePool& pool,
                                   const std::vector<EncodeTarget>& targets,
                                   const EncodeLayerOptions& options) {
  if (targets.empty() || targets.size() != pool.settings().size()) {
    return Error(Code::invalid_argument, "the pool makes another number of encodings");
  }
  Pass pass(pool, targets, options);
  RETURN_IF_ERROR(pass.run(blob));
  return pass.commit(diff_id);
}

}  // namespace pagein::convert
