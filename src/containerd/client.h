// A client of containerd's gRPC services on its unix socket.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"
#include "containerd/types.h"

namespace pagein::containerd {

struct ClientOptions {
  std::string socket = "/run/containerd/containerd.sock";
  std::string name_space = "default";  // "k8s.io" for Kubernetes
  // Of one short call. Transfers and Apply have no deadline, only cancellation.
  std::chrono::milliseconds timeout{60'000};
};

// Bytes of a blob in order. Confined to the thread that reads it.
class BlobStream {
 public:
  virtual ~BlobStream() = default;
  // Up to out.size() bytes; 0 at the end. May block.
  virtual Result<size_t> read(std::span<uint8_t> out) = 0;
};
// Opens the blob at an offset (bytes already in containerd from an earlier try).
using OpenBlob = std::function<Result<std::unique_ptr<BlobStream>>(uint64_t offset)>;
using OnBytes = std::function<void(uint64_t count)>;

struct WriteRequest {
  std::string ref;     // names the upload, for resuming it
  std::string digest;  // containerd verifies it
  uint64_t size = 0;
  Labels labels;
  OnBytes on_bytes;    // after each piece; may be empty
};

enum class Written { uploaded, was_there };

// Thread-safe. Every call blocks until containerd answers, the deadline
// passes (timeout) or `stop` is requested (cancelled). Errors: not_found,
// already_exists, failed_precondition, invalid_argument as containerd says;
// unavailable: containerd is not there. A call made with a lease keeps what
// it makes until the lease goes.
class Client {
 public:
  // Does not connect yet: the first call does.
  static Result<std::unique_ptr<Client>> open(ClientOptions options, std::stop_token stop = {});
  ~Client();

  // The same connection, with calls made under a lease. The original must
  // live longer.
  std::unique_ptr<Client> with_lease(const std::string& lease) const;
  // The same connection, not cancelled by `stop`: for cleaning up.
  std::unique_ptr<Client> uncancelled() const;

  Result<std::string> version();

  // A lease that containerd drops by itself at the expiry. Answers its id.
  Result<std::string> create_lease(std::chrono::seconds lifetime);
  Status delete_lease(const std::string& lease);

  Result<ContentInfo> content_info(const std::string& digest);
  Result<std::string> read_content(const std::string& digest, uint64_t cap);
  // Sends the blob, resuming an earlier upload of the same ref and digest.
  // unavailable: another client is writing it now.
  Result<Written> write_content(const WriteRequest& request, const OpenBlob& open);
  // Adds or replaces these labels, keeping others.
  Status label_content(const std::string& digest, const Labels& labels);
  Status delete_content(const std::string& digest);
  Status abort_upload(const std::string& ref);

  struct SnapshotRequest {
    std::string snapshotter;
    std::string key;
    std::string parent;
    Labels labels;
  };
  // already_exists: the snapshotter has the layer of containerd.io/snapshot.ref.
  Result<std::vector<Mount>> prepare_snapshot(const SnapshotRequest& request);
  Status commit_snapshot(const SnapshotRequest& committed, const std::string& active_key);
  Status remove_snapshot(const std::string& snapshotter, const std::string& key);
  Result<SnapshotInfo> stat_snapshot(const std::string& snapshotter, const std::string& key);
  Result<std::vector<Mount>> snapshot_mounts(const std::string& snapshotter,
                                             const std::string& key);

  // Unpacks a layer blob of the content store onto the mounts; the answer is
  // the uncompressed tar's descriptor, whose digest is the diffID.
  Result<Descriptor> apply(const Descriptor& layer, const std::vector<Mount>& mounts);

  Result<Image> get_image(const std::string& name);
  // Creates it or points it at the new target; labels are merged into an
  // existing image's.
  Status put_image(const Image& image);
  Status delete_image(const std::string& name);

  // Makes the namespace if it is not there.
  Status ensure_namespace();

 private:
  struct Connection;
  struct CallOptions;
  class Call;
  explicit Client(std::shared_ptr<Connection> connection, std::string lease,
                  std::stop_token stop);
  std::shared_ptr<Connection> connection_;
  std::string lease_;
  std::stop_token stop_;
};

}  // namespace pagein::containerd
