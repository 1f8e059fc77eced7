// Ranged reads of blobs that the caller waits for.
#pragma once

#include <memory>

#include "base/file.h"
#include "registry/blob_source.h"

namespace pagein::registry {

// A read under way. wait() blocks, once; not on the net thread. Not verified.
class PendingRead {
 public:
  // Begins at once, so that several can be under way side by side.
  PendingRead(BlobSource& source, const BlobRead& read);
  Result<Bytes> wait();

 private:
  class Collector;
  std::shared_ptr<Collector> collector_;
};

}  // namespace pagein::registry
