// Pulling an image into containerd with a snapshotter that may serve layers
// lazily. containerd's own client does the same; doing it ourselves gives the
// snapshotter its labels with every containerd version and setting.
#pragma once

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "containerd/client.h"
#include "containerd/plan.h"

namespace pagein::containerd {

enum class LayerState {
  waiting,
  present,   // the snapshot was there already
  lazy,      // the snapshotter serves it
  fetching,  // the ordinary way, from here
  unpacking,
  unpacked,
};
std::string_view to_string(LayerState state);

struct LayerProgress {
  size_t layer = 0;  // index in the plan
  LayerState state = LayerState::waiting;
  uint64_t fetched = 0;  // bytes of the blob, so far
};

struct PullOptions {
  std::string snapshotter = "pagein";
  size_t parallel_downloads = 3;                   // containerd's default
  std::chrono::seconds lease_lifetime{24 * 3600};  // containerd's default
  Labels image_labels;
  // Called from several threads, one at a time; must not block for long.
  std::function<void(const LayerProgress&)> on_progress;
};

struct LayerSummary {
  oci::Digest digest;
  oci::Digest chain_id;
  LayerState state = LayerState::waiting;  // present, lazy or unpacked
  uint64_t fetched = 0;                    // bytes
};

struct PullSummary {
  oci::Digest chain_id;  // of the whole image; empty for one without layers
  std::vector<LayerSummary> layers;
};

// Blocks until the image is there. On an error or a stop (the client's), the
// uploads and snapshots under way are gone again, best effort; what was
// complete stays until containerd collects it. Where the first layers are not
// served lazily, those above without annotations for a snapshotter are
// downloaded ahead.
Result<PullSummary> pull_image(Client& client, const PullPlan& plan, registry::ImageSource& source,
                               const PullOptions& options);

}  // namespace pagein::containerd
