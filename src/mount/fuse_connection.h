// One image's device files, served to the kernel over /dev/fuse.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/unique_fd.h"
#include "mount/device_file.h"
#include "mount/fuse_server.h"

namespace pagein::mount {

class FuseNodes;
class FuseSession;

// What a successor needs to go on without INIT, beside the descriptor and the
// same list of files. Plain values: the caller stores them as it likes.
struct FuseSessionState {
  uint32_t protocol_minor = 0;  // the kernel's; 0: INIT has not been answered
  uint64_t init_flags = 0;      // the kernel's INIT flags
  uint32_t connection = 0;      // N of /sys/fs/fuse/connections/N

  bool can_resend() const;  // the kernel knows FUSE_NOTIFY_RESEND (>= 6.9)
};

// Counters since the connection was mounted or adopted.
struct FuseStats {
  uint64_t requests = 0;
  uint64_t reads = 0;
  uint64_t read_bytes = 0;   // answered with data
  uint64_t read_errors = 0;  // answered with an error
  uint64_t in_flight = 0;    // reads not yet answered
  uint64_t in_flight_bytes = 0;
  uint64_t malformed = 0;
  uint64_t resent = 0;  // requests that a predecessor had left
};

// How the kernel opens a device file.
enum class FuseCaching {
  none,  // FOPEN_DIRECT_IO: no copy in the FUSE file's page cache
  keep,  // FOPEN_KEEP_CACHE: cached and read ahead by the FUSE file
};

struct FuseConnectionOptions {
  std::string name;  // shown as the mount's source
  std::vector<std::shared_ptr<DeviceFile>> files;
  FuseCaching caching = FuseCaching::none;  // of `files`
  // Shown instead of `files`.
  std::shared_ptr<FuseNodes> nodes;
  // Who may use the mount: our own user, or everyone, by the files' modes; then
  // device nodes and set-id programs work, too.
  enum class Users { ourselves, everyone } users = Users::ourselves;
  // Above these the connection's requests wait in the kernel. More than the
  // kernel's own background limit, so that slow reads do not hold up hits.
  uint64_t max_in_flight_reads = 4096;
  uint64_t max_in_flight_bytes = 256ULL << 20;
  // Called once, when the kernel has ended the connection (its last user is
  // gone, or it was aborted), on a serving thread. It must not block, nor
  // destroy the connection or the server.
  std::function<void()> on_end;
  // Answer device reads one byte short. Only for probing what the kernel makes
  // of that.
  enum class Fault { none, short_reads } fault = Fault::none;
};

// Serves options.nodes, or a flat directory of read-only files named "0", "1", ...
// in the order of options.files. Thread-safe.
//  F1 Node ids and file handles depend only on what is shown (of a file its place
//     in the list), so a successor that shows the same understands the requests
//     of its predecessor.
//  F2 A mount of device files is never attached to the file system tree: it is
//     reached through its descriptor only, no mount namespace can copy it, and the
//     connection lives exactly as long as somebody (EROFS) holds a file of it open.
//  F3 Nothing here waits for a request to our own files, except the caller of
//     functions that say so.
//  F4 INTERRUPT is refused once (ENOSYS), so that the kernel sends no more: a
//     reader that gets a harmless signal must not see its read fail. Reads end
//     by their answer; EROFS's readers can be killed while they wait.
class FuseConnection {
 public:
  // A new connection, ready to be opened from. Waits for INIT (at most
  // `timeout`; code timeout).
  static Result<std::unique_ptr<FuseConnection>> mount(
      FuseServer& server, FuseConnectionOptions options,
      std::chrono::milliseconds timeout = std::chrono::seconds(10));

  // Continue a connection whose server died or released it: the kernel is asked
  // to send unanswered requests again. `fd` is its /dev/fuse descriptor.
  // unsupported: this kernel cannot resend; close every copy of the descriptor
  // then, and readers get errors. failed_precondition: INIT was never answered.
  static Result<std::unique_ptr<FuseConnection>> adopt(FuseServer& server, UniqueFd fd,
                                                       const FuseSessionState& state,
                                                       FuseConnectionOptions options);

  // As release(), unless serve_to_the_end() was called.
  ~FuseConnection();

  // The mount of mount() (O_PATH); file N is at "N" below it. Closing it leaves
  // the connection to those who have files open. Invalid after the first call,
  // and for adopted connections.
  UniqueFd take_mount();

  // For the service manager's descriptor store. Owned by the connection. Holders
  // must not poll it: each request would wake them.
  int device_fd() const;

  FuseSessionState state() const;
  FuseStats stats() const;
  bool ended() const;
  // timeout if the kernel still has users of the connection.
  Status wait_ended(std::chrono::milliseconds timeout) const;

  // The last resort: the kernel ends the connection, all readers get errors.
  Status abort();

  // Stop serving and leave the connection to a successor: waits until no serving
  // thread works for it. Reads in flight may still be answered. If nobody else
  // holds the descriptor, the kernel ends the connection when the last read in
  // flight is answered. Not from a DeviceFile or on_end.
  void release();

  // From now on destroying this object does not stop the serving: the server goes
  // on until the kernel ends the connection, and then lets go of the files.
  void serve_to_the_end();

 private:
  FuseConnection(std::shared_ptr<FusePoller> poller, std::shared_ptr<FuseSession> session,
                 uint64_t id);

  const std::shared_ptr<FusePoller> poller_;
  const std::shared_ptr<FuseSession> session_;
  const uint64_t id_;  // the poller's name for the session
  UniqueFd mount_;
  std::atomic<bool> to_the_end_{false};
};

}  // namespace pagein::mount
