// What the tests of the HTTP client share.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <future>
#include <memory>
#include <string>
#include <utility>

#include "net/fake_server.h"
#include "net/http_client.h"

namespace pagein::net {

inline constexpr uint64_t kCap = 64 << 20;

inline std::shared_ptr<Client> make_client(ClientOptions options = {}) {
  auto client = Client::create(std::move(options));
  EXPECT_TRUE(client.ok());
  return *client;
}

inline Request get(std::string url) {
  Request request;
  request.url = std::move(url);
  return request;
}

inline std::string pattern(size_t size) {
  std::string out(size, '\0');
  for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return out;
}

// A handler whose outcome can be waited for.
class Probe : public ResponseHandler {
 public:
  void on_headers(const ResponseHead& h) override { head = h; }
  void on_data(ByteView data) override {
    body.append(as_text(data));
    if (react) react(*this);
  }
  void on_done(Status status) override { done.set_value(std::move(status)); }
  Status wait() { return done.get_future().get(); }

  ResponseHead head;
  std::string body;
  std::function<void(Probe&)> react;
  std::promise<Status> done;
};

// Opens once; whoever waits goes on then.
class Gate {
 public:
  void open() { promise_.set_value(); }
  void wait() { future_.wait(); }

 private:
  std::promise<void> promise_;
  std::shared_future<void> future_ = promise_.get_future().share();
};

}  // namespace pagein::net
