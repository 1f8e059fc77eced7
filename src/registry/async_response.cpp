#include "registry/async_response.h"

#include <atomic>

namespace pagein::registry {

namespace {

class Collector : public net::ResponseHandler {
 public:
  Collector(net::Client& client, uint64_t cap, std::function<void(Result<net::Response>)> done)
      : client_(client), cap_(cap), done_(std::move(done)) {}
  void set_id(net::RequestId id) { id_ = id; }

  void on_headers(const net::ResponseHead& head) override { response_.head = head; }
  void on_data(ByteView data) override {
    overflow_ = overflow_ || response_.body.size() + data.size() > cap_;
    if (!overflow_) {
      response_.body.append(as_text(data));
    } else {
      client_.cancel(id_);  // while the id is not known yet: at the next piece
    }
  }
  void on_done(Status status) override {
    if (overflow_) {
      return done_(Error(Code::exhausted, "the answer is longer than the " + std::to_string(cap_) +
                                              " bytes allowed here"));
    }
    if (!status.ok()) return done_(status.error());
    done_(std::move(response_));
  }

 private:
  net::Client& client_;
  const uint64_t cap_;
  std::atomic<net::RequestId> id_{0};
  std::function<void(Result<net::Response>)> done_;
  net::Response response_;
  bool overflow_ = false;
};

}  // namespace

net::RequestId collect_response(net::Client& client, net::Request request, uint64_t cap,
                                std::function<void(Result<net::Response>)> done) {
  auto collector = std::make_shared<Collector>(client, cap, std::move(done));
  const net::RequestId id = client.start(std::move(request), collector);
  collector->set_id(id);
  return id;
}

}  // namespace pagein::registry
