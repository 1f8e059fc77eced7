// Which sessions have requests waiting: the epoll set behind FuseServer.
// Internal to mount.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <span>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace pagein::mount {

class FuseSession;

// Thread-safe. Shared by the server's threads and every session, so that a late
// reply can still resume its session after the server has gone.
//
// One thread at a time drains a session, and only before it waits for a disk does
// it let another in (rearm). Waking a second thread for the request that comes
// while the first writes its answer cost three times the CPU of a 4 KiB read (30
// us instead of 10, on 2 cores). Blocking reads could not be stopped without
// signals.
class FusePoller : public std::enable_shared_from_this<FusePoller> {
 public:
  static Result<std::shared_ptr<FusePoller>> create();

  // Starts serving. The session's descriptor must be non-blocking.
  Status add(uint64_t id, std::shared_ptr<FuseSession> session);
  // Stops serving and waits until no thread works for the session.
  void remove(uint64_t id);
  // Look at the session's descriptor again.
  void rearm(uint64_t id);

  uint64_t next_id() { return next_id_.fetch_add(1); }

  // A serving thread's life: returns after stop().
  void serve();
  void stop();
  // After the threads have gone: forgets all sessions.
  void clear();

 private:
  FusePoller(UniqueFd epoll, UniqueFd wake) : epoll_(std::move(epoll)), wake_(std::move(wake)) {}
  struct Served {
    std::shared_ptr<FuseSession> session;
    int workers = 0;  // threads in drain()
    bool ended = false;
  };
  void serve_one(uint64_t id, std::span<uint8_t> buffer);

  const UniqueFd epoll_;
  const UniqueFd wake_;
  std::atomic<uint64_t> next_id_{1};  // 0 is wake_
  Mutex mutex_;
  CondVar idle_;
  std::map<uint64_t, Served> served_ GUARDED_BY(mutex_);
};

}  // namespace pagein::mount
