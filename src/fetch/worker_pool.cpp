#include "fetch/worker_pool.h"

#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/guard.h"

namespace pagein::fetch {
namespace {

constexpr int kLowNice = 5;  // a third of a normal thread's share

int process_nice() { return getpriority(PRIO_PROCESS, static_cast<id_t>(::getpid())); }

// Best effort: without it background work competes like any other thread.
void set_nice(int thread, int nice) {
  static_cast<void>(setpriority(PRIO_PROCESS, static_cast<id_t>(thread), nice));
}

}  // namespace

int WorkerPool::current_thread() { return ::gettid(); }

void WorkerPool::boost(int thread) { set_nice(thread, process_nice()); }

WorkerPool::WorkerPool(std::string name, size_t threads, Weight weight)
    : name_(std::move(name)), weight_(weight) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this] { run(); });
}

WorkerPool::~WorkerPool() { stop(); }

void WorkerPool::post(std::function<void()> task) {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    queue_.push_back(std::move(task));
  }
  wake_.notify_one();
}

void WorkerPool::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void WorkerPool::run() {
  pthread_setname_np(pthread_self(), name_.substr(0, 15).c_str());
  const int low = process_nice() + kLowNice;
  if (weight_ == Weight::low) set_nice(current_thread(), low);
  for (;;) {
    std::function<void()> task;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stopping_) wake_.wait(mutex_);
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    guard(name_, task);
    if (weight_ == Weight::low && getpriority(PRIO_PROCESS, 0) != low)
      set_nice(current_thread(), low);
  }
}

}  // namespace pagein::fetch
