#include "convert/layer_jobs.h"

#include <algorithm>
#include <map>
#include <thread>

#include "base/guard.h"
#include "base/mutex.h"

namespace pagein::convert {
namespace {

class Runner {
 public:
  Runner(const std::vector<LayerJob>& jobs, const RunJobsOptions& options,
         const std::function<Status(size_t)>& do_layer)
      : jobs_(jobs), options_(options), do_layer_(do_layer) {}

  Status run() {
    std::vector<std::thread> threads;
    const size_t count =
        std::clamp<size_t>(options_.parallel, 1, std::max<size_t>(1, jobs_.size()));
    for (size_t i = 0; i < count; ++i) {
      threads.emplace_back([this] { guard("convert", [this] { work(); }); });
    }
    for (std::thread& thread : threads) thread.join();
    MutexLock lock(mutex_);
    if (!first_error_.ok()) return first_error_;
    if (stopped()) return Error(Code::cancelled, "stopped");
    return {};
  }

 private:
  bool stopped() const {
    return failed_.load() || (options_.stop != nullptr && options_.stop->load());
  }
  void work() {
    for (size_t i = next_++; i < jobs_.size() && !stopped(); i = next_++) {
      Status status = do_layer_(i);
      if (status.ok()) continue;
      MutexLock lock(mutex_);
      if (first_error_.ok()) {
        first_error_ = status.error().with_context("layer " + jobs_[i].layer.digest.str());
      }
      failed_ = true;
    }
  }

  const std::vector<LayerJob>& jobs_;
  const RunJobsOptions& options_;
  const std::function<Status(size_t)>& do_layer_;
  std::atomic<size_t> next_{0};
  std::atomic<bool> failed_{false};
  Mutex mutex_;
  Status first_error_ GUARDED_BY(mutex_);
};

}  // namespace

Result<LayerPlan> plan_layers(const BaseImage& base) {
  LayerPlan plan;
  std::map<oci::Digest, size_t> seen;
  for (const PlatformImage& image : base.images) {
    std::vector<size_t>& layers = plan.platforms.emplace_back();
    for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
      const oci::Descriptor& layer = image.manifest.layers[i];
      const oci::Digest& diff_id = image.config.diff_ids[i];
      const auto [it, fresh] = seen.emplace(layer.digest, plan.jobs.size());
      if (fresh) {
        plan.jobs.push_back({layer, diff_id});
      } else if (plan.jobs[it->second].diff_id != diff_id) {
        return Error(Code::corrupt_input, "two images of the index give layer " +
                                              layer.digest.str() + " different diffIDs");
      }
      layers.push_back(it->second);
    }
  }
  return plan;
}

Status run_layer_jobs(const std::vector<LayerJob>& jobs, const RunJobsOptions& options,
                      const std::function<Status(size_t)>& do_layer) {
  return Runner(jobs, options, do_layer).run();
}

}  // namespace pagein::convert
