// A whole small response, delivered to a function on the net thread.
#pragma once

#include <functional>
#include <memory>

#include "net/http_client.h"

namespace pagein::registry {

// `done` is called exactly once; exhausted if the body exceeds `cap`.
net::RequestId collect_response(net::Client& client, net::Request request, uint64_t cap,
                                std::function<void(Result<net::Response>)> done);

}  // namespace pagein::registry
