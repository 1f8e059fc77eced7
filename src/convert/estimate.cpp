#include "convert/estimate.h"

#include <algorithm>
#include <map>

#include "codec/chunk_encoder.h"
#include "codec/span_indexer.h"
#include "convert/index_cache.h"
#include "convert/layer_jobs.h"
#include "convert/publish.h"
#include "oci/media_types.h"
#include "registry/read_range.h"

namespace pagein::convert {
namespace {

constexpr uint64_t kSampleBytes = 1 << 20;  // compressed
constexpr size_t kSampleTar = 16 << 20;     // of what it yields

// Measured on the image of docs/full-mode.md. Shares are of the tar.
constexpr double kHeadShare = 0.0009;
constexpr double kCheckpointShare = 0.0038;  // of gzip layers, at 256 KiB
constexpr double kIndexSeconds = 3.0;        // per GB of tar
constexpr double kFullSeconds = 4.5;         // decoding, hashing, writing
constexpr double kGzipSeconds = 10.0;        // compressing
constexpr double kZstdSeconds = 5.0;

class SampleSink : public codec::OutputSink {
 public:
  Status on_output(ByteView piece) override {
    const size_t count = std::min(piece.size(), kSampleTar - std::min(kSampleTar, tar.size()));
    tar.insert(tar.end(), piece.begin(), piece.begin() + static_cast<std::ptrdiff_t>(count));
    if (tar.size() >= kSampleTar) return Error(Code::exhausted, "that is enough");
    return {};
  }
  Bytes tar;
};

struct Sample {
  uint64_t compressed = 0;
  Bytes tar;
  codec::Encoding encoding{};
};

Result<Sample> sample_layer(registry::BlobSource& blobs, const oci::Descriptor& layer) {
  registry::BlobRead read;
  read.digest = layer.digest;
  read.blob_size = layer.size;
  read.length = std::min(layer.size, kSampleBytes);
  Sample sample;
  if (read.length == 0) return sample;
  ASSIGN_OR_RETURN(const Bytes bytes, registry::PendingRead(blobs, read).wait());
  sample.encoding = codec::detect_encoding(bytes);
  SampleSink sink;
  const auto decoder = codec::make_decoder(sample.encoding, sink);
  // By small steps, so that what was fed is what the tar came of.
  constexpr size_t kStep = 16 << 10;
  for (size_t at = 0; at < bytes.size(); at += kStep) {
    const ByteView step = ByteView(bytes).subspan(at, std::min(kStep, bytes.size() - at));
    if (!decoder->feed(step).ok()) break;
    sample.compressed += step.size();
  }
  sample.tar = std::move(sink.tar);
  return sample;
}

uint64_t scaled(uint64_t bytes, double factor) {
  return static_cast<uint64_t>(static_cast<double>(bytes) * factor);
}

// Of a sample: bytes that come out for each that goes in.
double ratio(uint64_t out, uint64_t in) {
  return in == 0 ? 1 : static_cast<double>(out) / static_cast<double>(in);
}

class Estimator {
 public:
  Estimator(registry::ImageSource& source, const std::vector<EstimateTarget>& targets,
            const EstimateOptions& options)
      : source_(source), targets_(targets), options_(options), cache_(options.cache) {}

  Result<Estimate> run();

 private:
  bool is_full() const { return options_.mode == EstimateOptions::Mode::full; }
  Status do_layer(const LayerJob& job);
  bool find_index(const LayerJob& job, LayerEstimate* layer);
  Status add_full(const LayerEstimate& layer, const Sample& sample);
  Status add_kept(const LayerEstimate& layer);

  registry::ImageSource& source_;
  const std::vector<EstimateTarget>& targets_;
  const EstimateOptions& options_;
  const IndexCache cache_;
  std::map<oci::Digest, index::IndexLocation> published_;
  Estimate result_;
};

Result<Estimate> Estimator::run() {
  ASSIGN_OR_RETURN(const BaseImage base, load_base_image(source_, options_.platforms));
  ASSIGN_OR_RETURN(const LayerPlan plan, plan_layers(base));
  result_.base = base.root;
  result_.images.resize(targets_.size());
  if (!is_full()) {
    published_ = find_published_indexes(*targets_.front().destination,
                                        index_settings(options_.spacing, options_.max_index_share));
  }
  for (const LayerJob& job : plan.jobs) RETURN_IF_ERROR(do_layer(job));
  return std::move(result_);
}

// Index-only: full mode's cache knows only what each encoder made.
bool Estimator::find_index(const LayerJob& job, LayerEstimate* layer) {
  if (is_full()) return false;
  if (const auto it = published_.find(job.layer.digest); it != published_.end()) {
    layer->index_bytes = it->second.size;
    layer->head_bytes = it->second.head_size;
    return true;
  }
  const auto cached =
      cache_.find(job.layer.digest, index_settings(options_.spacing, options_.max_index_share));
  if (!cached) return false;
  layer->index_bytes = cached->index.head.size() + cached->index.checkpoints.size();
  layer->head_bytes = cached->index.head.size();
  layer->tar_bytes = cached->parsed->tar_size;
  result_.images.front().write_bytes += layer->index_bytes;
  return true;
}

Status Estimator::do_layer(const LayerJob& job) {
  LayerEstimate layer;
  layer.layer = job.layer;
  result_.base_bytes += job.layer.size;
  const oci::LayerType type = oci::parse_layer_type(job.layer.media_type);
  Sample sample;
  if (!type.known || type.foreign) {
    layer.state = LayerEstimate::State::left;
    layer.reason = "its media type " + job.layer.media_type + " is not one of a tar layer";
  } else if (find_index(job, &layer)) {
    layer.state = LayerEstimate::State::ready;
  } else {
    ASSIGN_OR_RETURN(sample, sample_layer(*source_.blobs(), job.layer));
    layer.tar_bytes = scaled(job.layer.size, ratio(sample.tar.size(), sample.compressed));
    layer.head_bytes = scaled(layer.tar_bytes, kHeadShare);
    const bool checkpoints = !is_full() && sample.encoding == codec::Encoding::gzip;
    const double finer = static_cast<double>(256 << 10) / static_cast<double>(options_.spacing);
    layer.index_bytes =
        layer.head_bytes + (checkpoints ? scaled(layer.tar_bytes, kCheckpointShare * finer) : 0);
    result_.read_bytes += job.layer.size;
    result_.cpu_seconds +=
        static_cast<double>(layer.tar_bytes) / 1e9 * (is_full() ? kFullSeconds : kIndexSeconds);
    for (ImageEstimate& image : result_.images) image.write_bytes += layer.index_bytes;
  }
  const bool left = layer.state == LayerEstimate::State::left;
  result_.start_bytes += left ? job.layer.size : layer.head_bytes;
  RETURN_IF_ERROR(is_full() && !left ? add_full(layer, sample) : add_kept(layer));
  result_.layers.push_back(std::move(layer));
  return {};
}

// The sample compressed as the layer would be.
Status Estimator::add_full(const LayerEstimate& layer, const Sample& sample) {
  for (size_t t = 0; t < targets_.size(); ++t) {
    const bool zstd = targets_[t].encoding == codec::Encoding::zstd;
    ASSIGN_OR_RETURN(const auto encoder,
                     codec::make_chunk_encoder({.encoding = targets_[t].encoding}));
    uint64_t encoded = 0;
    Bytes chunk;
    for (size_t at = 0; at < sample.tar.size(); at += options_.spacing) {
      RETURN_IF_ERROR(encoder->encode(
          ByteView(sample.tar)
              .subspan(at, std::min<size_t>(options_.spacing, sample.tar.size() - at)),
          chunk));
      encoded += chunk.size();
    }
    const uint64_t bytes = scaled(layer.tar_bytes, ratio(encoded, sample.tar.size()));
    result_.images[t].layer_bytes += bytes;
    result_.images[t].write_bytes += bytes;
    result_.cpu_seconds +=
        static_cast<double>(layer.tar_bytes) / 1e9 * (zstd ? kZstdSeconds : kGzipSeconds);
  }
  return {};
}

// The blob stays what it is; the destination may lack it.
Status Estimator::add_kept(const LayerEstimate& layer) {
  for (size_t t = 0; t < targets_.size(); ++t) {
    result_.images[t].layer_bytes += layer.layer.size;
    ASSIGN_OR_RETURN(const bool there, targets_[t].destination->has_blob(layer.layer));
    if (!there) result_.images[t].write_bytes += layer.layer.size;
  }
  return {};
}

}  // namespace

Result<Estimate> estimate_conversion(registry::ImageSource& source,
                                     const std::vector<EstimateTarget>& targets,
                                     const EstimateOptions& options) {
  return Estimator(source, targets, options).run();
}

}  // namespace pagein::convert
