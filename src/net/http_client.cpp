#include "net/http_client.h"

#include "base/mutex.h"
#include "net/client_impl.h"

namespace pagein::net {

namespace {

// Collects a response for a thread that waits for it.
class Collector : public ResponseHandler {
 public:
  explicit Collector(uint64_t cap) : cap_(cap) {}

  void on_headers(const ResponseHead& head) override { response_.head = head; }
  void on_data(ByteView data) override {
    if (overflow_) return;
    if (response_.body.size() + data.size() > cap_) {
      overflow_ = true;
      response_.body.clear();
      if (stop_) stop_();
      return;
    }
    response_.body.append(as_text(data));
  }
  void on_done(Status status) override {
    MutexLock lock(mutex_);
    status_ = std::move(status);
    done_ = true;
    changed_.notify_all();
  }

  Result<Response> wait(const std::string& doing) {
    MutexLock lock(mutex_);
    while (!done_) changed_.wait(mutex_);
    if (overflow_) {
      return Error(Code::exhausted, doing + ": the answer is longer than the " +
                                        std::to_string(cap_) + " bytes allowed here");
    }
    if (!status_.ok()) return status_.error();
    return std::move(response_);
  }
  void set_stop(std::function<void()> stop) { stop_ = std::move(stop); }

 private:
  const uint64_t cap_;
  std::function<void()> stop_;
  Response response_;
  bool overflow_ = false;
  Mutex mutex_;
  CondVar changed_;
  bool done_ GUARDED_BY(mutex_) = false;
  Status status_ GUARDED_BY(mutex_);
};

}  // namespace

Client::Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Client::~Client() { impl_->stop(); }

Result<std::shared_ptr<Client>> Client::create(ClientOptions options) {
  auto impl = std::make_shared<Impl>(std::move(options));
  RETURN_IF_ERROR(Impl::start_thread(impl));
  return std::shared_ptr<Client>(new Client(std::move(impl)));
}

RequestId Client::start(Request request, std::shared_ptr<ResponseHandler> handler) {
  const RequestId id = impl_->next_id();
  // std::function wants to copy what it holds.
  auto box = std::make_shared<std::unique_ptr<Transfer>>(
      std::make_unique<Transfer>(id, std::move(request), std::move(handler)));
  impl_->post([impl = impl_.get(), box] { impl->begin(std::move(*box)); });
  return id;
}

void Client::cancel(RequestId id) {
  // At once where that is possible; a request that a callback has just started
  // is still among the commands, and this then comes after it.
  if (impl_->on_net_thread() && impl_->known(id)) return impl_->cancel(id);
  impl_->post([impl = impl_.get(), id] { impl->cancel(id); });
}

void Client::pause(RequestId id) {
  if (impl_->on_net_thread() && impl_->known(id)) return impl_->pause(id);
  impl_->post([impl = impl_.get(), id] { impl->pause(id); });
}

void Client::resume(RequestId id) {
  // Posted even on the net thread: libcurl delivers held data at once, which
  // must not happen inside another callback.
  impl_->post([impl = impl_.get(), id] { impl->resume(id); });
}

void Client::promote(RequestId id) {
  // Posted for the same reason.
  impl_->post([impl = impl_.get(), id] { impl->promote(id); });
}

void Client::body_ready(RequestId id) {
  impl_->post([impl = impl_.get(), id] { impl->body_ready(id); });
}

Result<Response> Client::perform(Request request, uint64_t body_cap) {
  if (on_net_thread()) return Error(Code::internal, "a blocking request on the net thread");
  const std::string url = request.url.substr(0, request.url.find('?'));
  auto collector = std::make_shared<Collector>(body_cap);
  const RequestId id = impl_->next_id();
  collector->set_stop([impl = impl_.get(), id] { impl->cancel(id); });
  auto box = std::make_shared<std::unique_ptr<Transfer>>(
      std::make_unique<Transfer>(id, std::move(request), collector));
  impl_->post([impl = impl_.get(), box] { impl->begin(std::move(*box)); });
  return collector->wait(url);
}

void Client::set_class_limit(Priority priority, size_t transfers) {
  impl_->post(
      [impl = impl_.get(), priority, transfers] { impl->set_class_limit(priority, transfers); });
}

void Client::pause_class(Priority priority) {
  impl_->post([impl = impl_.get(), priority] { impl->set_class_paused(priority, kHoldClass); });
}

void Client::resume_class(Priority priority) {
  impl_->post([impl = impl_.get(), priority] { impl->set_class_paused(priority, 0); });
}

void Client::set_class_bandwidth(Priority priority, uint64_t bytes_per_second) {
  impl_->post([impl = impl_.get(), priority, bytes_per_second] {
    impl->set_class_bandwidth(priority, bytes_per_second);
  });
}

void Client::run_after(std::chrono::nanoseconds delay, std::function<void()> task) {
  const Clock::time_point when = Clock::now() + delay;
  impl_->post([impl = impl_.get(), when, task = std::move(task)]() mutable {
    impl->add_timer(when, std::move(task));
  });
}

bool Client::on_net_thread() const { return impl_->on_net_thread(); }

Stats Client::stats() const { return impl_->stats(); }

LinkEstimate Client::link(std::string_view url) const {
  Result<Url> parsed = parse_url(url);
  return parsed.ok() ? impl_->link(parsed->origin()) : LinkEstimate();
}

}  // namespace pagein::net
