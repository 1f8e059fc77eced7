// Asynchronous ranged reads of blobs, wherever they lie: what page-in and
// conversion read through.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "net/http_client.h"
#include "oci/digest.h"

namespace pagein::registry {

using ReadId = uint64_t;  // never 0

// Bytes [offset, offset + length) of the blob. length > 0 and within blob_size
// (else on_done(invalid_argument)).
struct BlobRead {
  oci::Digest digest;
  uint64_t blob_size = 0;  // of the whole blob, as its descriptor says
  uint64_t offset = 0;
  uint64_t length = 0;
  net::Priority priority = net::Priority::demand;
  net::Clock::time_point deadline = net::Clock::time_point::max();
};

// Receives one read. Callbacks come one at a time, on a thread of the source
// (the net thread for registries), and must not block; they may begin before
// read() has returned. They may call read, cancel, pause and resume.
class BlobSink {
 public:
  virtual ~BlobSink() = default;
  // In order, no byte twice, whatever retries happen below.
  virtual void on_data(ByteView data) = 0;
  // Exactly once; ok means that exactly `length` bytes came. Errors:
  // not_found, unauthenticated (after refreshing), unavailable (retries used
  // up), timeout (deadline), cancelled, corrupt_input (the host answers other
  // bytes than asked for), unsupported (it cannot give ranges: load the whole).
  virtual void on_done(Status status) = 0;
};

// Thread-safe. Never blocks in these calls. Bytes are NOT verified here: a
// range has no digest of its own; the caller checks spans against the layer
// index, or hashes what it read whole.
class BlobSource {
 public:
  virtual ~BlobSource() = default;
  virtual ReadId read(const BlobRead& read, std::shared_ptr<BlobSink> sink) = 0;
  // on_done(cancelled) follows unless the read has just ended. Unknown ids are
  // ignored, here and below.
  virtual void cancel(ReadId id) = 0;
  // Called in on_data: no further on_data until resume. From another thread
  // one may be under way.
  virtual void pause(ReadId id) = 0;
  virtual void resume(ReadId id) = 0;
  // Somebody waits for it now: as if it had been asked for as demand.
  virtual void promote(ReadId id) { static_cast<void>(id); }

  // What this read (which has ended) delivered did not verify: the blob's next reads go to another
  // host where there is one. Unknown and long ended reads are ignored.
  virtual void distrust(ReadId id) { static_cast<void>(id); }

  // This source answered a range of the blob with the whole blob: send one
  // read for all of it and no more ranges until that ends.
  virtual bool range_unsupported(const oci::Digest& digest) const {
    static_cast<void>(digest);
    return false;
  }
  // Of the host that serves the data; zeros where nothing was measured.
  virtual net::LinkEstimate link() const { return {}; }
  // For messages and logs: "registry.example/app" or a path.
  virtual std::string describe() const = 0;
};

}  // namespace pagein::registry
