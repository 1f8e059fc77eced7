// Pulling an image into containerd with a snapshotter that may serve layers
// lazily. containerd's own client does the same; doing it ourselves gives the
// snapshotter its labels on every containerd version.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/result.h"
#include "containerd/client.h"
#include "containerd/types.h"

namespace pagein::containerd {

// An index, manifest or config: small, and needed whole.
struct Document {
  Descriptor descriptor;
  std::string bytes;
  std::vector<Descriptor> children;  // what it refers to, in order
};

struct LayerPlan {
  Descriptor blob;      // as the manifest has it, with annotations
  std::string diff_id;  // from the config
};

// What to pull. plan_pull() makes it; all digests in it have been verified.
struct PullPlan {
  std::string name;           // the image's name in containerd
  Descriptor target;          // what the name resolves to: index or manifest
  std::vector<Document> documents;  // index (if any), manifest, config
  std::string manifest_digest;
  std::string config_digest;
  std::vector<LayerPlan> layers;    // lowest first
  std::string source_host;          // registry, and repository in it, for
  std::string source_repository;    // distribution.source labels; may be empty
};

// Where blobs come from. Thread-safe; may block.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  // The whole document (manifest, index, config), at most `cap` bytes. Its
  // digest is checked by the caller.
  virtual Result<std::string> fetch_document(const Descriptor& descriptor, uint64_t cap) = 0;
  virtual Result<std::unique_ptr<BlobStream>> open_blob(const Descriptor& blob,
                                                        uint64_t offset) = 0;
};

struct Platform {
  std::string os = "linux";
  std::string architecture;  // empty: this machine's
  std::string variant;
};

struct PlanRequest {
  std::string name;
  Descriptor target;  // resolved by the caller; media type required
  Platform platform;
  std::string source_host;
  std::string source_repository;
};
// Fetches the documents and checks them: digests, sizes, as many diffIDs as
// layers. not_found: nothing for the platform; unsupported: schema 1 and other
// media types; corrupt_input: a digest or the JSON is wrong.
Result<PullPlan> plan_pull(const PlanRequest& request, ImageSource& source);

enum class LayerState {
  waiting,
  present,   // the snapshot was there already
  lazy,      // the snapshotter serves it
  fetching,  // on the ordinary way from here
  unpacking,
  unpacked,
};

struct LayerProgress {
  size_t layer = 0;  // index in the plan
  LayerState state = LayerState::waiting;
  uint64_t fetched = 0;  // bytes of the blob
};

struct PullOptions {
  std::string snapshotter = "pagein";
  size_t parallel_downloads = 3;                  // containerd's default
  std::chrono::seconds lease_lifetime{24 * 3600};  // containerd's default
  Labels image_labels;
  // Called from several threads, one at a time; must not block for long.
  std::function<void(const LayerProgress&)> on_progress;
};

struct LayerSummary {
  std::string digest;
  std::string chain_id;
  LayerState state = LayerState::waiting;  // present, lazy or unpacked
  uint64_t fetched = 0;
};

struct PullSummary {
  std::string chain_id;  // of the whole image
  std::vector<LayerSummary> layers;
  uint64_t fetched = 0;  // bytes of layers and documents
};

// Blocks until the image is there. On an error or a stop the uploads and
// active snapshots that it made are gone again (best effort; the lease
// expires by itself). `client` carries the stop token.
Result<PullSummary> pull_image(Client& client, const PullPlan& plan, ImageSource& source,
                               const PullOptions& options);

}  // namespace pagein::containerd
