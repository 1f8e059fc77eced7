#include "convert/convert.h"

#include <map>

#include "convert/index_cache.h"
#include "convert/layer_indexer.h"
#include "convert/layer_jobs.h"
#include "convert/publish.h"
#include "convert/startup_packs.h"
#include "oci/media_types.h"

namespace pagein::convert {
namespace {

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
  Status do_layer(size_t i);
  Status index_now(size_t i, index::EncodedIndex* index);
  Status push_index(size_t i, const index::EncodedIndex& index);

  registry::ImageSource& source_;
  registry::ImageDestination& destination_;
  const ConvertOptions& options_;
  ConvertObserver& observer_;
  const IndexCache cache_;
  std::map<oci::Digest, index::IndexLocation> known_;  // by layer, at the destination
  std::string settings_;
  std::vector<LayerJob> jobs_;
  std::vector<std::shared_ptr<const index::LayerIndex>> indexes_;  // by job, where at hand
  ConvertReport report_;
};

Result<ConvertReport> Conversion::run() {
  if (destination_.tag().empty()) {
    return Error(Code::invalid_argument,
                 "the destination " + destination_.describe() + " needs a tag");
  }
  ASSIGN_OR_RETURN(const BaseImage base, load_base_image(source_, options_.platforms));
  ASSIGN_OR_RETURN(LayerPlan plan, plan_layers(base));
  report_ = empty_report(base, plan);
  jobs_ = std::move(plan.jobs);
  indexes_.resize(jobs_.size());
  observer_.on_layers(layers_of(jobs_));
  settings_ = index_settings(options_.spacing, options_.max_index_share);
  known_ = find_published_indexes(destination_, settings_);
  RETURN_IF_ERROR(run_layer_jobs(jobs_,
                                 {.parallel = options_.parallel_layers, .stop = options_.stop},
                                 [this](size_t i) { return do_layer(i); }));
  RETURN_IF_ERROR(add_startup_packs(source_, base,
                                    {{.destination = &destination_,
                                      .layers = source_.blobs(),
                                      .indexes = &indexes_,
                                      .report = &report_}},
                                    {.startup = &options_.startup, .stop = options_.stop}));
  RETURN_IF_ERROR(publish(source_, destination_, base,
                          {.settings = settings_, .referrer = options_.referrer}, &report_));
  return std::move(report_);
}

Status Conversion::do_layer(size_t i) {
  const LayerJob& job = jobs_[i];
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
  const auto cached = cache_.find(job.layer.digest, settings_);
  if (cached && cached->parsed->layer_digest == job.layer.digest) {
    report.outcome = LayerOutcome::reused;
    indexes_[i] = cached->parsed;
    RETURN_IF_ERROR(push_index(i, cached->index));
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
  cache_.keep(job.layer.digest, settings_, index);
  ASSIGN_OR_RETURN(indexes_[i], index::parse_head(index.head));
  RETURN_IF_ERROR(push_index(i, index));
  observer_.on_layer_done(i, "indexed");
  return {};
}

Status Conversion::index_now(size_t i, index::EncodedIndex* index) {
  const LayerJob& job = jobs_[i];
  IndexLayerOptions layer_options;
  layer_options.spacing = options_.spacing;
  layer_options.stop = options_.stop;
  layer_options.progress = [&](uint64_t bytes) { observer_.on_progress(i, bytes); };
  ASSIGN_OR_RETURN(IndexedLayer indexed,
                   index_layer_within([&] { return source_.open_blob(job.layer); }, job.layer,
                                      job.diff_id, options_.max_index_share, layer_options));
  LayerReport& report = report_.layers[i];
  report.tar_size = indexed.facts.tar_size;
  report.spans = indexed.spans;
  report.files = indexed.files;
  *index = std::move(indexed.index);
  return {};
}

Status Conversion::push_index(size_t i, const index::EncodedIndex& index) {
  ASSIGN_OR_RETURN(report_.layers[i].index, put_index(destination_, index));
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
