// The control socket, and the optional metrics address.
#pragma once

#include <memory>

#include "base/result.h"
#include "node/node.h"

namespace pagein::control {

// Serves until destroyed, on threads of its own. `node` must outlive it.
// The socket is mode 0600; the folder of it is made where needed.
class Server {
 public:
  static Result<std::unique_ptr<Server>> start(node::Node& node);
  ~Server();

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace pagein::control
