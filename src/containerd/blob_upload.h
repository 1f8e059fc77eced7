// One blob into containerd's content store, with its labels. Inside this
// folder only.
#pragma once

#include <functional>

#include "base/result.h"
#include "containerd/client.h"
#include "containerd/plan.h"

namespace pagein::containerd {

struct BlobUpload {
  oci::Descriptor blob;
  Labels labels;
  OpenBlob open;
  std::function<void(uint64_t bytes)> on_bytes;  // may be empty
};

// Uploads unless it is there; waits while another client does (ten minutes at
// most); then labels it, the plan's distribution source included. On an error
// the upload is gone. Blocks until done or the client's stop.
Status upload_blob(Client& client, const PullPlan& plan, const BlobUpload& upload);

}  // namespace pagein::containerd
