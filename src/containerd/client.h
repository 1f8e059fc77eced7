// A client of containerd's gRPC services on its unix socket.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "base/byte_stream.h"
#include "base/result.h"
#include "containerd/types.h"

namespace pagein::containerd {

struct ClientOptions {
  std::string socket = "/run/containerd/containerd.sock";
  std::string name_space = "default";  // "k8s.io" for Kubernetes
  // Of one short call. Transfers and Apply have no deadline, only cancellation.
  std::chrono::milliseconds timeout{60'000};
};

// Opens a blob at an offset: what containerd has of an earlier try is not sent
// again.
using OpenBlob = std::function<Result<std::unique_ptr<ByteStream>>(uint64_t offset)>;

struct UploadRequest {
  std::string ref;     // names the upload, for resuming it
  oci::Digest digest;  // containerd verifies it
  uint64_t size = 0;
  Labels labels;
  std::function<void(uint64_t bytes)> on_bytes;  // after each piece; may be empty
};

enum class Uploaded {
  now,
  was_there,
  by_another,  // another client is uploading it at this moment: ask again
};

struct SnapshotRequest {
  std::string snapshotter;
  std::string key;
  std::string parent;
  Labels labels;
};

// Thread-safe. Every call blocks until containerd answers, the deadline
// passes (timeout) or the stop is requested (cancelled). Errors: not_found,
// already_exists, failed_precondition, invalid_argument as containerd says;
// unavailable: containerd is not there. A call made with a lease keeps what
// it makes until the lease goes.
class Client {
 public:
  // Does not connect yet: the first call does.
  static std::unique_ptr<Client> open(const ClientOptions& options, std::stop_token stop = {});
  ~Client();

  // Handles on the same connection: one whose calls are made under a lease,
  // and one that another token cancels (none: for cleaning up).
  std::unique_ptr<Client> with_lease(const std::string& lease) const;
  std::unique_ptr<Client> with_stop(std::stop_token stop) const;
  const std::stop_token& stop() const { return stop_; }

  Result<std::string> version();
  // Makes the namespace if it is not there.
  Status ensure_namespace();

  // A lease that containerd drops by itself at the expiry. Answers its id.
  Result<std::string> create_lease(std::chrono::seconds lifetime);
  Status delete_lease(const std::string& lease);
  // Keeps the snapshot, if it is there or comes, as long as the lease.
  Status lease_snapshot(const std::string& lease, const std::string& snapshotter,
                        const std::string& key);

  Result<ContentInfo> content_info(const oci::Digest& digest);
  // exhausted beyond `cap`.
  Result<std::string> read_content(const oci::Digest& digest, uint64_t cap);
  // Sends the blob. corrupt_input: the bytes are not those of the digest.
  Result<Uploaded> upload(const UploadRequest& request, const OpenBlob& open);
  // Adds or replaces these labels, keeping others.
  Status label_content(const oci::Digest& digest, const Labels& labels);
  Status delete_content(const oci::Digest& digest);
  Status abort_upload(const std::string& ref);

  // already_exists: the snapshotter has the layer of containerd.io/snapshot.ref.
  Result<std::vector<Mount>> prepare_snapshot(const SnapshotRequest& request);
  // `committed.key` is the name; its parent is not used.
  Status commit_snapshot(const SnapshotRequest& committed, const std::string& active_key);
  Status remove_snapshot(const std::string& snapshotter, const std::string& key);
  Result<SnapshotInfo> stat_snapshot(const std::string& snapshotter, const std::string& key);
  Result<std::vector<Mount>> snapshot_mounts(const std::string& snapshotter,
                                             const std::string& key);

  // Unpacks a layer blob of the content store onto the mounts; answers the
  // diffID (the digest of the uncompressed tar).
  Result<oci::Digest> apply(const oci::Descriptor& layer, const std::vector<Mount>& mounts);

  Result<Image> get_image(const std::string& name);
  // Creates it, or points it at the new target and adds the labels.
  Status put_image(const Image& image);
  // Synchronously: with what only it kept.
  Status delete_image(const std::string& name);

 private:
  struct Connection;
  class Call;
  struct Upload;
  Client(std::shared_ptr<Connection> connection, std::string lease, std::stop_token stop);

  std::shared_ptr<Connection> connection_;
  std::string lease_;
  std::stop_token stop_;
};

}  // namespace pagein::containerd
