// What serves layers lazily, as the snapshotter sees it. The snapshotter owns
// names, parents and overlay stacks; the backend owns layer data and the
// mounts that show it. Tests use a fake.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "snapshotter/types.h"

namespace pagein::snapshotter {

// One Prepare that a client made before downloading a layer.
struct LayerRequest {
  std::string snapshot_ref;  // chain ID of the layer and all below it
  std::string parent;        // the parent snapshot's name; empty: lowest layer
  std::string parent_layer;  // its layer reference; empty: none, or ordinary
  Labels labels;             // containerd.io/snapshot/* and containerd.io/snapshot.ref
};

// Where a run of remote layers stands in a snapshot's stack.
struct RunRequest {
  std::vector<std::string> layers;  // layer references, lowest first; never empty
  // The fs folders of the ordinary layers below the run, topmost first. Not
  // empty: whiteouts and opaque marks of the run reach below it, so the tree
  // must keep them as overlayfs marks.
  std::vector<std::string> ordinary_below;
  bool remote_below = false;  // another run of this snapshot is below too
  std::string holder;         // the snapshot's id
};

// Lifetimes: the caller keeps the backend alive longer than the Snapshotter.
// Thread-safe. Every call may block (network, disk), for different snapshots
// side by side; no lock of the snapshotter is held meanwhile.
class RemoteBackend {
 public:
  virtual ~RemoteBackend() = default;

  // A reference, opaque to the snapshotter and not empty, when this layer can
  // be served lazily from now on (and after a restart, by mount_run alone);
  // nullopt declines, then containerd downloads it. An error means internal
  // trouble: it is logged, and counts as declining. The same layer may be
  // asked for again, also concurrently; one answer of several is stored.
  virtual Result<std::optional<std::string>> prepare_layer(const LayerRequest& request) = 0;

  // Mounted folders that together hold the merged tree of the run, topmost
  // first (usually one). They stay as they are until release(holder); a
  // snapshot may hold several runs. Asked again for the same run and holder,
  // also after a restart of the daemon whose mounts survived, it answers the
  // same folders. Paths must not contain ':' or ','.
  virtual Result<std::vector<std::string>> mount_run(const RunRequest& request) = 0;

  // All runs of the holder may go; unknown holders are fine. An overlay that
  // was mounted over such a folder may live a little longer (it keeps its own
  // reference to the filesystem, not to the mount point).
  virtual void release(const std::string& holder) = 0;

  // What the layer takes on this node now.
  virtual Result<Usage> usage(const std::string& layer) = 0;

  // The last snapshot that refers to the layer is gone. `name` is for logs.
  virtual void remove_layer(const std::string& layer, const std::string& name) = 0;

  // After a start, when every living snapshot has asked for its runs again:
  // layers and holders that were not named are left over from a crash.
  virtual void finish_reattach(const std::vector<std::string>& live_layers) { (void)live_layers; }
};

}  // namespace pagein::snapshotter
