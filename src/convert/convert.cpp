#include "convert/convert.h"

#include <algorithm>
#include <map>
#include <thread>

#include "base/guard.h"
#include "base/mutex.h"
#include "convert/base_image.h"
#include "convert/index_cache.h"
#include "convert/layer_indexer.h"
#include "convert/publish.h"
#include "oci/media_types.h"

namespace pagein::convert {
namespace {

// One distinct layer on its way.
struct Job {
  oci::Descriptor layer;
  oci::Digest diff_id;
};

class Conversion {
 public:
  Conversion(registry::ImageSource& source, registry::ImageDestination& destination,
             const ConvertOptions& options, ConvertObserver& observer)
      : source_(source),
        destination_(destination),
        options_(options),
        observer_(observer),
        cache_(options.cache) {}

  Result<ConvertReport> run();

 private:
  Status plan(const BaseImage& base);
  Status index_layers();
  void worker();
  bool stopped() const {
    return failed_.load() || (options_.stop != nullptr && options_.stop->load());
  }
  Status do_layer(size_t i);
  Status index_now(size_t i, index::EncodedIndex* index);
  Status push_index(size_t i, const index::EncodedIndex& index);

  registry::ImageSource& source_;
  registry::ImageDestination& destination_;
  const ConvertOptions& options_;
  ConvertObserver& observer_;
  const IndexCache cache_;
  std::map<oci::Digest, index::IndexLocation> known_;  // by layer, at the destination
  std::vector<Job> jobs_;
  ConvertReport report_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  Mutex mutex_;
  Status first_error_ GUARDED_BY(mutex_);
};

Result<ConvertReport> Conversion::run() {
  if (destination_.tag().empty()) {
    return Error(Code::invalid_argument,
                 "the destination " + destination_.describe() + " needs a tag");
  }
  ASSIGN_OR_RETURN(const BaseImage base, load_base_image(source_, options_.platforms));
  RETURN_IF_ERROR(plan(base));
  known_ = find_published_indexes(destination_, options_.spacing);
  RETURN_IF_ERROR(index_layers());
  RETURN_IF_ERROR(publish(source_, destination_, base, options_, &report_));
  return std::move(report_);
}

Status Conversion::plan(const BaseImage& base) {
  report_.base = base.root;
  std::map<oci::Digest, size_t> seen;
  std::vector<oci::Descriptor> descriptors;
  for (const PlatformImage& image : base.images) {
    PlatformReport platform;
    platform.platform = image.platform;
    for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
      const oci::Descriptor& layer = image.manifest.layers[i];
      const auto [it, fresh] = seen.emplace(layer.digest, jobs_.size());
      if (fresh) {
        jobs_.push_back({layer, image.config.diff_ids[i]});
        descriptors.push_back(layer);
        LayerReport report;
        report.layer = layer;
        report_.layers.push_back(std::move(report));
      } else if (jobs_[it->second].diff_id != image.config.diff_ids[i]) {
        return Error(Code::corrupt_input,
                     "two images of the index give layer " + layer.digest.str() +
                         " different diffIDs");
      }
      platform.layers.push_back(it->second);
    }
    report_.platforms.push_back(std::move(platform));
  }
  observer_.on_layers(descriptors);
  return {};
}

Status Conversion::index_layers() {
  std::vector<std::thread> threads;
  const size_t count = std::clamp<size_t>(options_.parallel_layers, 1, std::max<size_t>(1, jobs_.size()));
  for (size_t i = 0; i < count; ++i) {
    threads.emplace_back([this] { guard("convert", [this] { worker(); }); });
  }
  for (std::thread& thread : threads) thread.join();
  MutexLock lock(mutex_);
  if (!first_error_.ok()) return first_error_;
  if (stopped()) return Error(Code::cancelled, "stopped");
  return {};
}

void Conversion::worker() {
  for (size_t i = next_++; i < jobs_.size() && !stopped(); i = next_++) {
    Status status = do_layer(i);
    if (status.ok()) continue;
    MutexLock lock(mutex_);
    if (first_error_.ok()) {
      first_error_ = status.error().with_context("layer " + jobs_[i].layer.digest.str());
    }
    failed_ = true;
  }
}

Status Conversion::do_layer(size_t i) {
  const Job& job = jobs_[i];
  LayerReport& report = report_.layers[i];
  const oci::LayerType type = oci::parse_layer_type(job.layer.media_type);
  if (!type.known || type.foreign) {
    report.reason = "its media type " + job.layer.media_type + " is not one of a tar layer";
    observer_.on_layer_done(i, "left as it is: " + report.reason);
    return {};
  }
  if (const auto it = known_.find(job.layer.digest); it != known_.end()) {
    report.outcome = LayerOutcome::reused;
    report.index = it->second;
    observer_.on_layer_done(i, "already indexed");
    return {};
  }
  if (const auto cached = cache_.find(job.layer.digest, options_.spacing)) {
    report.outcome = LayerOutcome::reused;
    RETURN_IF_ERROR(push_index(i, *cached));
    observer_.on_layer_done(i, "indexed before, on this machine");
    return {};
  }
  index::EncodedIndex index;
  Status indexed = index_now(i, &index);
  if (!indexed.ok() && indexed.error().code == Code::unsupported) {
    report.reason = indexed.error().message;
    observer_.on_layer_done(i, "left as it is: " + report.reason);
    return {};
  }
  RETURN_IF_ERROR(indexed);
  report.outcome = LayerOutcome::indexed;
  cache_.keep(job.layer.digest, options_.spacing, index);
  RETURN_IF_ERROR(push_index(i, index));
  observer_.on_layer_done(i, "indexed");
  return {};
}

Status Conversion::index_now(size_t i, index::EncodedIndex* index) {
  const Job& job = jobs_[i];
  ASSIGN_OR_RETURN(const auto blob, source_.open_blob(job.layer));
  IndexLayerOptions layer_options;
  layer_options.spacing = options_.spacing;
  layer_options.stop = options_.stop;
  layer_options.progress = [&](uint64_t bytes) { observer_.on_progress(i, bytes); };
  ASSIGN_OR_RETURN(IndexedLayer indexed, index_layer(*blob, job.layer, job.diff_id, layer_options));
  LayerReport& report = report_.layers[i];
  report.tar_size = indexed.facts.tar_size;
  report.spans = indexed.spans;
  report.files = indexed.files;
  *index = std::move(indexed.index);
  return {};
}

Status Conversion::push_index(size_t i, const index::EncodedIndex& index) {
  std::string blob;
  blob.reserve(index.head.size() + index.checkpoints.size());
  blob += as_text(index.head);
  blob += as_text(index.checkpoints);
  ASSIGN_OR_RETURN(const oci::Descriptor descriptor,
                   registry::put_blob(destination_, blob, oci::media_type::kLayerIndex));
  report_.layers[i].index = {descriptor.digest, descriptor.size, index.head.size(),
                             oci::Digest::of(index.head)};
  return {};
}

}  // namespace

Result<ConvertReport> convert_to_index_only(registry::ImageSource& source,
                                            registry::ImageDestination& destination,
                                            const ConvertOptions& options,
                                            ConvertObserver& observer) {
  return Conversion(source, destination, options, observer).run();
}

}  // namespace pagein::convert
