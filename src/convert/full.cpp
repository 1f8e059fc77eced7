#include <algorithm>
#include <thread>

#include "convert/convert.h"
#include "convert/encode_pool.h"
#include "convert/index_cache.h"
#include "convert/layer_encoder.h"
#include "convert/layer_jobs.h"
#include "convert/publish.h"
#include "convert/startup_packs.h"
#include "oci/media_types.h"
#include "registry/retry.h"

namespace pagein::convert {
namespace {

// Two are held for each upload, of which a layer has one for each target.
constexpr size_t kUploadChunk = 8 << 20;
constexpr int kAttempts = 3;  // of one layer, where an upload breaks

std::string_view media_type_of(codec::Encoding encoding) {
  return oci::layer_media_type(encoding == codec::Encoding::zstd ? oci::LayerCompression::zstd
                                                                 : oci::LayerCompression::gzip);
}

class FullConversion {
 public:
  FullConversion(registry::ImageSource& source, const std::vector<FullTarget>& targets,
                 const FullOptions& options, ConvertObserver& observer)
      : source_(source),
        targets_(targets),
        options_(options),
        observer_(observer),
        cache_(options.cache) {}

  Result<std::vector<ConvertReport>> run();

 private:
  Status prepare();
  Status add_packs(const BaseImage& base);
  Status do_layer(size_t i);
  void leave(size_t i, const std::string& reason);
  Result<bool> reuse(size_t i);
  Status encode(size_t i);
  Result<EncodedLayers> encode_once(size_t i);
  Status take(size_t i, size_t target, const CachedIndex& made, LayerOutcome outcome);

  registry::ImageSource& source_;
  const std::vector<FullTarget>& targets_;
  const FullOptions& options_;
  ConvertObserver& observer_;
  const IndexCache cache_;
  std::unique_ptr<EncodePool> pool_;
  std::vector<std::string> settings_;    // per target
  std::vector<std::string> cache_keys_;  // per target
  std::vector<LayerJob> jobs_;
  std::vector<ConvertReport> reports_;  // per target
  // Per target and job.
  std::vector<std::vector<std::shared_ptr<const index::LayerIndex>>> indexes_;
};

Result<std::vector<ConvertReport>> FullConversion::run() {
  RETURN_IF_ERROR(prepare());
  ASSIGN_OR_RETURN(const BaseImage base, load_base_image(source_, options_.platforms));
  ASSIGN_OR_RETURN(LayerPlan plan, plan_layers(base));
  reports_.assign(targets_.size(), empty_report(base, plan));
  jobs_ = std::move(plan.jobs);
  indexes_.resize(targets_.size());
  for (auto& indexes : indexes_) indexes.resize(jobs_.size());
  observer_.on_layers(layers_of(jobs_));
  RETURN_IF_ERROR(run_layer_jobs(jobs_,
                                 {.parallel = options_.parallel_layers, .stop = options_.stop},
                                 [this](size_t i) { return do_layer(i); }));
  RETURN_IF_ERROR(add_packs(base));
  for (size_t t = 0; t < targets_.size(); ++t) {
    registry::ImageDestination& destination = *targets_[t].destination;
    const Status published =
        publish(source_, destination, base,
                {.settings = settings_[t], .referrer = options_.referrer}, &reports_[t]);
    if (published.ok()) continue;
    if (t == 0) return published.error();
    return published.error().with_context(targets_[0].destination->describe() + " is published, " +
                                          destination.describe() + " is not");
  }
  return std::move(reports_);
}

Status FullConversion::add_packs(const BaseImage& base) {
  std::vector<PackTarget> packs;
  for (size_t t = 0; t < targets_.size(); ++t) {
    packs.push_back({.destination = targets_[t].destination,
                     .layers = targets_[t].destination->as_source()->blobs(),
                     .indexes = &indexes_[t],
                     .report = &reports_[t]});
  }
  return add_startup_packs(source_, base, packs,
                           {.startup = &options_.startup, .stop = options_.stop});
}

Status FullConversion::prepare() {
  std::vector<codec::ChunkEncoderOptions> encodings;
  for (const FullTarget& target : targets_) {
    if (target.destination->tag().empty()) {
      return Error(Code::invalid_argument,
                   "the destination " + target.destination->describe() + " needs a tag");
    }
    encodings.push_back({.encoding = target.encoding});
  }
  const size_t cpus = std::max(1U, std::thread::hardware_concurrency());
  ASSIGN_OR_RETURN(pool_,
                   EncodePool::make(encodings, options_.threads > 0 ? options_.threads : cpus));
  for (const std::string& encoder : pool_->settings()) {
    settings_.push_back("v1;" + encoder + ";chunk=" + std::to_string(options_.chunk));
    cache_keys_.push_back("full-" +
                          oci::Digest::of(as_bytes(settings_.back())).hex().substr(0, 16));
  }
  return {};
}

Status FullConversion::do_layer(size_t i) {
  const oci::LayerType type = oci::parse_layer_type(jobs_[i].layer.media_type);
  if (!type.known || type.foreign) {
    leave(i, "its media type " + jobs_[i].layer.media_type + " is not one of a tar layer");
    return {};
  }
  ASSIGN_OR_RETURN(const bool reused, reuse(i));
  if (reused) {
    observer_.on_layer_done(i, "re-encoded before");
    return {};
  }
  const Status encoded = encode(i);
  if (!encoded.ok() && encoded.error().code == Code::unsupported) {
    leave(i, encoded.error().message);
    return {};
  }
  RETURN_IF_ERROR(encoded);
  observer_.on_layer_done(i, "re-encoded");
  return {};
}

void FullConversion::leave(size_t i, const std::string& reason) {
  for (ConvertReport& report : reports_) report.layers[i].reason = reason;
  observer_.on_layer_done(i, "left as it is: " + reason);
}

// Only this user's own cache says what a base layer becomes: a tag at the
// destination is somebody's claim. That the blob is there is the registry's
// word, as for every blob that was pushed before.
Result<bool> FullConversion::reuse(size_t i) {
  std::vector<CachedIndex> found;
  for (size_t t = 0; t < targets_.size(); ++t) {
    auto cached = cache_.find(jobs_[i].layer.digest, cache_keys_[t]);
    if (!cached || cached->parsed->diff_id != jobs_[i].diff_id ||
        cached->parsed->encoding != targets_[t].encoding) {
      return false;
    }
    oci::Descriptor blob;
    blob.digest = cached->parsed->layer_digest;
    blob.size = cached->parsed->layer_size;
    ASSIGN_OR_RETURN(const bool there, targets_[t].destination->has_blob(blob));
    if (!there) return false;
    found.push_back(*std::move(cached));
  }
  for (size_t t = 0; t < targets_.size(); ++t) {
    RETURN_IF_ERROR(take(i, t, found[t], LayerOutcome::reused));
  }
  return true;
}

Status FullConversion::encode(size_t i) {
  for (int attempt = 1;; ++attempt) {
    const Result<EncodedLayers> encoded = encode_once(i);
    if (!encoded.ok()) {
      if (attempt < kAttempts && registry::is_retryable(encoded.error())) continue;
      return encoded.error();
    }
    for (size_t t = 0; t < targets_.size(); ++t) {
      const EncodedLayer& layer = encoded->targets[t];
      const auto parsed = index::parse_head(layer.index.head);
      if (!parsed.ok()) {
        return Error(Code::internal, "the index that was made: " + parsed.error().message);
      }
      cache_.keep(jobs_[i].layer.digest, cache_keys_[t], layer.index);
      RETURN_IF_ERROR(take(i, t, {layer.index, *parsed}, LayerOutcome::indexed));
    }
    return {};
  }
}

Result<EncodedLayers> FullConversion::encode_once(size_t i) {
  std::vector<std::unique_ptr<registry::BlobWriter>> writers;
  std::vector<EncodeTarget> encode_targets;
  for (const FullTarget& target : targets_) {
    ASSIGN_OR_RETURN(auto writer, target.destination->start_blob({.chunk_size = kUploadChunk}));
    encode_targets.push_back({target.encoding, writer.get()});
    writers.push_back(std::move(writer));
  }
  ASSIGN_OR_RETURN(const auto blob, source_.open_blob(jobs_[i].layer));
  EncodeLayerOptions layer_options;
  layer_options.chunk = options_.chunk;
  layer_options.stop = options_.stop;
  layer_options.progress = [&](uint64_t bytes) { observer_.on_progress(i, bytes); };
  return encode_layer(*blob, jobs_[i].diff_id, *pool_, encode_targets, layer_options);
}

// Pushes the index of a layer that is there and enters both in the report.
Status FullConversion::take(size_t i, size_t target, const CachedIndex& made,
                            LayerOutcome outcome) {
  const index::LayerIndex& parsed = *made.parsed;
  LayerReport& report = reports_[target].layers[i];
  ASSIGN_OR_RETURN(report.index, put_index(*targets_[target].destination, made.index));
  report.outcome = outcome;
  report.published = {};
  report.published.media_type = std::string(media_type_of(targets_[target].encoding));
  report.published.digest = parsed.layer_digest;
  report.published.size = parsed.layer_size;
  report.tar_size = parsed.tar_size;
  report.spans = parsed.spans.size();
  report.files = parsed.files.size();
  indexes_[target][i] = made.parsed;
  return {};
}

}  // namespace

Result<std::vector<ConvertReport>> convert_to_full(registry::ImageSource& source,
                                                   const std::vector<FullTarget>& targets,
                                                   const FullOptions& options,
                                                   ConvertObserver& observer) {
  return FullConversion(source, targets, options, observer).run();
}

}  // namespace pagein::convert
