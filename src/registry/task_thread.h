// One thread that runs tasks in order: for work that blocks (files, credential
// helpers) on behalf of callers that must not.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <thread>

#include "base/guard.h"
#include "base/mutex.h"

namespace pagein::registry {

// Thread-safe. The thread starts with the first task. Destruction drops tasks
// that have not begun and joins; a task may itself be the last owner.
class TaskThread {
 public:
  TaskThread() : state_(std::make_shared<State>()) {}
  ~TaskThread() {
    {
      MutexLock lock(state_->mutex);
      state_->stopping = true;
      state_->changed.notify_all();
    }
    if (!thread_.joinable()) return;
    if (thread_.get_id() == std::this_thread::get_id()) {
      thread_.detach();
    } else {
      thread_.join();
    }
  }
  TaskThread(const TaskThread&) = delete;
  TaskThread& operator=(const TaskThread&) = delete;

  void post(std::function<void()> task) {
    MutexLock lock(state_->mutex);
    state_->tasks.push_back(std::move(task));
    if (!thread_.joinable()) thread_ = std::thread(&TaskThread::run, state_);
    state_->changed.notify_one();
  }

 private:
  struct State {
    Mutex mutex;
    CondVar changed;
    std::deque<std::function<void()>> tasks GUARDED_BY(mutex);
    bool stopping GUARDED_BY(mutex) = false;
  };

  static void run(std::shared_ptr<State> state) {
    for (;;) {
      std::function<void()> task;
      {
        MutexLock lock(state->mutex);
        while (state->tasks.empty() && !state->stopping) state->changed.wait(state->mutex);
        if (state->stopping) return;
        task = std::move(state->tasks.front());
        state->tasks.pop_front();
      }
      guard("task thread", task);
    }
  }

  std::shared_ptr<State> state_;
  std::thread thread_;
};

}  // namespace pagein::registry
