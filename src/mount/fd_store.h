// Descriptors that outlive this process, in the service manager's store
// (sd_pid_notify_with_fds(3), FDSTORE; the unit needs FileDescriptorStoreMax=).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace pagein::mount {

// Thread-safe; holds no state beside the environment's NOTIFY_SOCKET.
class FdStore {
 public:
  // Whether a service manager listens (NOTIFY_SOCKET is set). Without one,
  // put() and remove() answer unsupported: a restart then ends the mounts that
  // need this process.
  bool available() const;

  // Keep a copy of `fd` under `name`. The manager is told not to poll it: a
  // polled /dev/fuse would wake the manager at each request. So stale ones must
  // be removed by us. Does not wait for the manager to act; the message is
  // queued when this returns, and survives our death.
  Status put(std::string_view name, int fd) const;
  Status remove(std::string_view name) const;

  // Waits until the manager has handled all of the above, at most `timeout`.
  Status flush(unsigned timeout_ms) const;
};

// 1..255 printable ASCII characters without ':' (systemd's rule).
bool is_fd_name(std::string_view name);

struct StoredFd {
  std::string name;
  UniqueFd fd;
};

// What the manager hands back at start, sockets of socket units included. Call
// once, at start, before threads: it takes the descriptors and clears the
// environment's LISTEN_*. Empty without a manager.
Result<std::vector<StoredFd>> take_stored_fds();

}  // namespace pagein::mount
