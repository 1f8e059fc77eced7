// What the client's .cpp files share: the channel with its stubs, and one
// call's context. Includes gRPC: inside this folder's .cpp files only.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>

#include <optional>

#include "containerd/client.h"

namespace pagein::containerd {

struct Client::Connection {
  ClientOptions options;
  std::shared_ptr<grpc::Channel> channel;
};

// The context of one call: namespace, lease, deadline, and cancellation while
// it lives.
class Client::Call {
 public:
  enum class Deadline { usual, none };
  explicit Call(const Client& client, Deadline deadline = Deadline::usual);

  grpc::ClientContext* context() { return &context_; }
  // The call's outcome in our terms; `doing` leads the message.
  Status status(const grpc::Status& status, std::string_view doing) const;

 private:
  struct Cancel {
    grpc::ClientContext* context;
    void operator()() const { context->TryCancel(); }
  };
  const Client& client_;
  grpc::ClientContext context_;
  std::stop_callback<Cancel> on_stop_;
};

}  // namespace pagein::containerd
