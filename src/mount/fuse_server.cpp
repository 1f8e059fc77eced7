#include "mount/fuse_server.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>

#include "base/guard.h"
#include "mount/fuse_poller.h"
#include "mount/fuse_session.h"

namespace pagein::mount {
namespace {

// Once: until it is armed again, the thread that got it has the session alone.
constexpr uint32_t kEvents = EPOLLIN | EPOLLONESHOT;

}  // namespace

Result<std::shared_ptr<FusePoller>> FusePoller::create() {
  UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll) return errno_error(errno, "create an epoll set");
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake) return errno_error(errno, "create an eventfd");
  epoll_event event{};
  event.events = EPOLLIN;  // level-triggered: wakes every thread, and stays
  event.data.u64 = 0;
  if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, wake.get(), &event) != 0) {
    return errno_error(errno, "watch an eventfd");
  }
  return std::shared_ptr<FusePoller>(new FusePoller(std::move(epoll), std::move(wake)));
}

Status FusePoller::add(uint64_t id, std::shared_ptr<FuseSession> session) {
  const int fd = session->fd();
  {
    MutexLock lock(mutex_);
    served_[id].session = std::move(session);
  }
  epoll_event event{};
  event.events = kEvents;
  event.data.u64 = id;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
    const int error = errno;
    MutexLock lock(mutex_);
    served_.erase(id);
    return errno_error(error, "watch a FUSE connection");
  }
  return {};
}

void FusePoller::remove(uint64_t id) {
  std::shared_ptr<FuseSession> session;
  {
    MutexLock lock(mutex_);
    const auto it = served_.find(id);
    if (it == served_.end()) return;
    session = it->second.session;
  }
  // Explicitly: another process's copy of the descriptor would keep it watched.
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, session->fd(), nullptr);
  MutexLock lock(mutex_);
  for (;;) {
    const auto it = served_.find(id);
    if (it == served_.end()) return;
    if (it->second.workers == 0) {
      served_.erase(it);
      return;
    }
    idle_.wait(mutex_);
  }
}

void FusePoller::rearm(uint64_t id) {
  std::shared_ptr<FuseSession> session;
  {
    MutexLock lock(mutex_);
    const auto it = served_.find(id);
    if (it == served_.end()) return;
    session = it->second.session;
  }
  epoll_event event{};
  event.events = kEvents;
  event.data.u64 = id;
  // Fails where remove() was faster.
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, session->fd(), &event);
}

void FusePoller::serve_one(uint64_t id, std::span<uint8_t> buffer) {
  std::shared_ptr<FuseSession> session;
  {
    MutexLock lock(mutex_);
    const auto it = served_.find(id);
    if (it == served_.end()) return;
    session = it->second.session;
    ++it->second.workers;
  }
  const FuseSession::Drained drained = session->drain(buffer);
  const bool ended = drained == FuseSession::Drained::ended;
  if (ended) ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, session->fd(), nullptr);
  // Not where it is paused: then the session asks for it.
  if (drained == FuseSession::Drained::idle || drained == FuseSession::Drained::more) rearm(id);
  {
    MutexLock lock(mutex_);
    const auto it = served_.find(id);
    if (it != served_.end()) {
      it->second.ended |= ended;
      if (--it->second.workers == 0 && it->second.ended) served_.erase(it);
    }
  }
  idle_.notify_all();
  if (ended) session->end();
}

void FusePoller::serve() {
  Bytes buffer(kRequestBufferBytes);
  for (;;) {
    epoll_event event;
    const int n = ::epoll_wait(epoll_.get(), &event, 1, -1);
    if (n < 0 && errno != EINTR) return;
    if (n <= 0) continue;
    if (event.data.u64 == 0) return;
    serve_one(event.data.u64, buffer);
  }
}

void FusePoller::clear() {
  std::map<uint64_t, Served> served;
  MutexLock lock(mutex_);
  served.swap(served_);
}

void FusePoller::stop() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);
}

Result<std::unique_ptr<FuseServer>> FuseServer::start(const Options& options) {
  ASSIGN_OR_RETURN(std::shared_ptr<FusePoller> poller, FusePoller::create());
  std::unique_ptr<FuseServer> server(new FuseServer(poller));
  // Signals are the program's; its main thread takes them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  const bool started = guard("start FUSE threads", [&] {
    for (unsigned i = 0; i < std::max(1u, options.threads); ++i) {
      server->threads_.emplace_back([poller] {
        pthread_setname_np(pthread_self(), "pagein-fuse");
        guard("FUSE thread", [&] { poller->serve(); });
      });
    }
  });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (!started) return Error(Code::exhausted, "cannot start the threads that serve FUSE");
  return server;
}

FuseServer::~FuseServer() {
  poller_->stop();
  for (std::thread& thread : threads_) thread.join();
  poller_->clear();
}

}  // namespace pagein::mount
