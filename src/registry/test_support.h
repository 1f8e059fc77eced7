// For this folder's tests: time that passes by itself, sinks that can be
// waited for, a registry that serves blobs and can be told to misbehave.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "net/fake_server.h"
#include "registry/blob_source.h"
#include "registry/content_range.h"
#include "registry/repository.h"
#include "registry/session.h"

namespace pagein::registry {

// Delays cost no time: they are recorded and the clock jumps.
class FakeScheduler : public Scheduler {
 public:
  explicit FakeScheduler(std::shared_ptr<net::Client> client) : client_(std::move(client)) {}
  net::Clock::time_point now() const override {
    return net::Clock::now() + std::chrono::nanoseconds(skew_.load());
  }
  void run_after(std::chrono::nanoseconds delay, std::function<void()> task) override {
    sleep(delay);
    client_->run_after({}, std::move(task));
  }
  double random() override { return 0.5; }
  void sleep(std::chrono::nanoseconds delay) override {
    advance(delay);
    MutexLock lock(mutex_);
    delays_.push_back(delay);
  }
  void advance(std::chrono::nanoseconds by) { skew_ += by.count(); }
  std::vector<std::chrono::nanoseconds> delays() const {
    MutexLock lock(mutex_);
    return delays_;
  }

 private:
  std::shared_ptr<net::Client> client_;
  std::atomic<int64_t> skew_{0};
  mutable Mutex mutex_;
  std::vector<std::chrono::nanoseconds> delays_ GUARDED_BY(mutex_);
};

struct TestSession {
  std::shared_ptr<Session> session;
  std::shared_ptr<FakeScheduler> scheduler;
};

inline TestSession make_test_session(std::shared_ptr<CredentialProvider> credentials = nullptr,
                                     RetryPolicy retry = {}) {
  SessionOptions options;
  options.client = *net::Client::create();
  auto scheduler = std::make_shared<FakeScheduler>(options.client);
  options.scheduler = scheduler;
  options.credentials = std::move(credentials);
  options.retry = retry;
  return {*Session::create(options), scheduler};
}

inline std::string pattern(size_t size) {
  std::string out(size, '\0');
  uint32_t state = 12345;
  for (char& c : out) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return out;
}

class SinkProbe : public BlobSink {
 public:
  void on_data(ByteView data) override {
    bytes.append(as_text(data));
    if (react) react(*this);
  }
  void on_done(Status status) override { done.set_value(std::move(status)); }
  Status wait() { return done.get_future().get(); }

  std::string bytes;
  std::function<void(SinkProbe&)> react;
  std::promise<Status> done;
};

// Serves blobs with ranges; `fault` may answer first (counted from 1).
class FakeRegistry {
 public:
  using Fault =
      std::function<std::optional<net::FakeResponse>(const net::FakeRequest& request, int count)>;

  FakeRegistry() : server_([this](const net::FakeRequest& request) { return answer(request); }) {}

  oci::Digest add(const std::string& content) {
    const oci::Digest digest = oci::Digest::of(as_bytes(content));
    MutexLock lock(mutex_);
    blobs_[digest.str()] = content;
    return digest;
  }
  void set_fault(Fault fault) {
    MutexLock lock(mutex_);
    fault_ = std::move(fault);
    count_ = 0;
  }
  oci::Reference reference(const std::string& repository = "app") const {
    return *oci::Reference::make(server_.host(), repository);
  }
  const net::FakeServer& server() const { return server_; }

  // What a well-behaved registry says to a GET of this content.
  static net::FakeResponse serve(const std::string& content, const net::FakeRequest& request) {
    const std::string range = request.header("range");
    if (range.empty()) return {.body = content};
    const size_t dash = range.find('-');
    const size_t first = std::stoul(range.substr(6, dash - 6));
    if (first >= content.size()) return {.status = 416};
    const size_t last = std::min(std::stoul(range.substr(dash + 1)), content.size() - 1);
    return {.status = 206,
            .headers = {{"Content-Range", "bytes " + std::to_string(first) + "-" +
                                              std::to_string(last) + "/" +
                                              std::to_string(content.size())}},
            .body = content.substr(first, last - first + 1)};
  }

 private:
  net::FakeResponse answer(const net::FakeRequest& request) {
    Fault fault;
    int count = 0;
    std::optional<std::string> content;
    {
      MutexLock lock(mutex_);
      fault = fault_;
      count = ++count_;
      const auto it = blobs_.find(request.path.substr(request.path.rfind('/') + 1));
      if (it != blobs_.end()) content = it->second;
    }
    if (fault) {
      if (auto response = fault(request, count)) return *std::move(response);
    }
    if (!content) return {.status = 404};
    return serve(*content, request);
  }

  Mutex mutex_;
  std::map<std::string, std::string> blobs_ GUARDED_BY(mutex_);
  Fault fault_ GUARDED_BY(mutex_);
  int count_ GUARDED_BY(mutex_) = 0;
  net::FakeServer server_;  // last: its threads use the above
};

}  // namespace pagein::registry
