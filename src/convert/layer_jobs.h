// The distinct layers of an image and the threads that work through them.
#pragma once

#include <atomic>
#include <functional>
#include <vector>

#include "convert/base_image.h"

namespace pagein::convert {

struct LayerJob {
  oci::Descriptor layer;
  oci::Digest diff_id;
};

struct LayerPlan {
  std::vector<LayerJob> jobs;  // each distinct layer once
  std::vector<std::vector<size_t>>
      platforms;  // per image of the base: its layers' jobs, lowest first
};

// corrupt_input where two images of an index give one layer different diffIDs.
Result<LayerPlan> plan_layers(const BaseImage& base);

struct RunJobsOptions {
  size_t parallel = 2;
  const std::atomic<bool>* stop = nullptr;  // set: no further job begins, `cancelled`
};
// Calls do_layer(i) for each job, several at once; the first error, naming the
// layer, ends it. Blocks.
Status run_layer_jobs(const std::vector<LayerJob>& jobs, const RunJobsOptions& options,
                      const std::function<Status(size_t)>& do_layer);

}  // namespace pagein::convert
