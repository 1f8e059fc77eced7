// The few threads that serve all FUSE connections of the process.
#pragma once

#include <memory>
#include <thread>
#include <vector>

#include "base/result.h"

namespace pagein::mount {

class FusePoller;

// Threads are shared, so that a hundred images do not mean hundreds of threads;
// each waits in one epoll set for any connection's requests and answers hits
// inline. Thread-safe. Must outlive its connections' mount() and adopt() calls;
// connections that remain are no longer served after it is destroyed.
class FuseServer {
 public:
  struct Options {
    // More than cores: a thread may wait for the disk under ReadReply::file.
    // Idle ones cost nothing; 1, 2 and 4 read equally fast from memory.
    unsigned threads = 4;
  };
  static Result<std::unique_ptr<FuseServer>> start(const Options& options);
  // Joins the threads.
  ~FuseServer();
  FuseServer(const FuseServer&) = delete;
  FuseServer& operator=(const FuseServer&) = delete;

  const std::shared_ptr<FusePoller>& poller() const { return poller_; }

 private:
  explicit FuseServer(std::shared_ptr<FusePoller> poller) : poller_(std::move(poller)) {}

  std::shared_ptr<FusePoller> poller_;
  std::vector<std::thread> threads_;
};

}  // namespace pagein::mount
