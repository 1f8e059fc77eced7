// The gRPC service containerd.services.snapshots.v1.Snapshots on a unix
// socket: translation only (containerd's proxy plugin protocol).
#pragma once

#include <filesystem>
#include <memory>

#include "base/result.h"

namespace pagein::snapshotter {

class Snapshotter;

struct ServerOptions {
  std::filesystem::path socket;  // its folder exists; an old socket is replaced
  // Calls beyond that many at once are refused with RESOURCE_EXHAUSTED. A call
  // may wait for the network, so this is far above the number of CPUs.
  int max_threads = 256;
};

// Answers from construction to destruction; the destructor lets running calls
// end (cancelled after five seconds) and removes the socket. The socket
// appears at its path only when it accepts, with mode 0600. Thread-compatible.
class Server {
 public:
  // `snapshotter` must outlive the server.
  static Result<std::unique_ptr<Server>> start(Snapshotter& snapshotter,
                                               const ServerOptions& options);
  ~Server();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pagein::snapshotter
