// Many readers, the background load, faults and cancellations at once. Worth
// most under the thread and address sanitizers.
#include <gtest/gtest.h>

#include "fetch/background.h"
#include "fetch/fetch_fixture.h"

namespace pagein::fetch {
namespace {

using namespace fetch::testing;
using net::Priority;

// Runs timers as soon as it can, on a thread of its own.
class EagerTimers {
 public:
  EagerTimers() : thread_([this] { run(); }) {}
  ~EagerTimers() {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  void run_after(std::chrono::milliseconds delay, std::function<void()> task) {
    MutexLock lock(mutex_);
    tasks_.emplace(net::Clock::now() + delay, std::move(task));
    wake_.notify_all();
  }

 private:
  void run() {
    MutexLock lock(mutex_);
    while (!stopping_) {
      if (tasks_.empty()) {
        wake_.wait(mutex_);
      } else if (tasks_.begin()->first > net::Clock::now()) {
        wake_.wait_until(mutex_, tasks_.begin()->first);
      } else {
        const auto task = std::move(tasks_.begin()->second);
        tasks_.erase(tasks_.begin());
        mutex_.unlock();
        task();
        mutex_.lock();
      }
    }
  }

  Mutex mutex_;
  CondVar wake_;
  std::multimap<net::Clock::time_point, std::function<void()>> tasks_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

class FetchStress : public FetchTest {
 protected:
  struct Tally {
    std::atomic<size_t> started{0};
    std::atomic<size_t> ended{0};
    std::atomic<size_t> failed{0};
  };

  // A reader as the kernel is one: asks for ranges, looks at what it got.
  void read_randomly(uint32_t seed, int reads, Tally& tally) {
    std::mt19937 random(seed);
    for (int i = 0; i < reads; ++i) {
      const uint64_t offset = random() % data_.size();
      const uint64_t length = 1 + random() % std::min<uint64_t>(128 << 10, data_.size() - offset);
      const auto priority = random() % 4 == 0 ? Priority::prefetch : Priority::demand;
      tally.started++;
      pager_->want(offset, length, priority, [this, offset, length, &tally](Status status) {
        Bytes out(length);
        if (status.ok()) status = pager_->copy_out(offset, out);
        if (!status.ok()) {
          tally.failed++;
        } else if (!std::equal(out.begin(), out.end(),
                               data_.begin() + static_cast<ptrdiff_t>(offset))) {
          ADD_FAILURE() << "wrong bytes at " << offset;
        }
        tally.ended++;
      });
      if (random() % 8 == 0) layer_->drop_span(random() % spans());
      if (random() % 50 == 0) pager_->cancel_all();
      if (random() % 20 == 0) static_cast<void>(layer_->sync());
      if (random() % 30 == 0) pager_->set_origins({origin(source_), origin(sources_.back())});
    }
  }
  void script_faults(const std::shared_ptr<FakeSource>& source, uint32_t seed) {
    auto random = std::make_shared<std::mt19937>(seed);
    source->set_script([random](size_t, const registry::BlobRead& read) {
      switch ((*random)() % 12) {
        case 0: return Answer{.status = Error(Code::unavailable, "down"), .bytes = 10};
        case 1: return Answer{.flip = read.offset + (*random)() % read.length};
        case 2: return Answer{.bytes = read.length / 2};
        default: return Answer{};
      }
    });
  }
};

TEST_F(FetchStress, EveryCompletionComesOnceAndNoByteIsWrong) {
  open(make_test_layer(sample_tar()));
  const auto second = add_source("second");
  script_faults(source_, 1);
  script_faults(second, 2);
  pager_->set_origins({origin(source_), origin(second)});
  EagerTimers timers;
  std::atomic<bool> settled{false};
  Background background(
      *context_,
      [&](std::chrono::milliseconds delay, std::function<void()> task) {
        timers.run_after(delay, std::move(task));
      },
      {.first_rest = std::chrono::milliseconds(1), .max_rest = std::chrono::milliseconds(5)},
      [&](const auto&) { settled = true; });
  background.add(pager_);
  Tally tally;
  std::vector<std::thread> readers;
  for (uint32_t i = 0; i < 6; ++i) {
    readers.emplace_back([&, i] { read_randomly(i, 150, tally); });
  }
  for (std::thread& reader : readers) reader.join();
  while (tally.ended < tally.started) std::this_thread::yield();
  source_->set_script(nullptr);
  second->set_script(nullptr);
  while (!settled) std::this_thread::yield();
  EXPECT_TRUE(layer_->complete()) << layer_->quarantine_reason();
  expect_bytes(0, data_.size());
  EXPECT_GT(tally.started - tally.failed, tally.started / 10) << "the others were called off";
  EXPECT_EQ(tally.ended, tally.started);
  background.pause();
  context_->stop();
}

TEST_F(FetchStress, StoppingInTheMiddleCompletesEverybody) {
  for (uint32_t round = 0; round < 8; ++round) {
    open(make_test_layer(sample_tar(round)));
    Tally tally;
    std::vector<std::thread> readers;
    for (uint32_t i = 0; i < 4; ++i) {
      readers.emplace_back([&, i] { read_randomly(10 * round + i, 30, tally); });
    }
    while (tally.started < 20) std::this_thread::yield();
    context_->stop();
    for (std::thread& reader : readers) reader.join();
    EXPECT_EQ(tally.ended, tally.started) << "all, when stop() and the readers have returned";
    for (const auto& source : sources_) source->wait_idle();
    pager_.reset();
    layer_.reset();
    store_.reset();
    context_.reset();
  }
}

TEST_F(FetchStress, StartAndPromoteRace) {
  open(make_test_layer(sample_tar()));
  for (int round = 0; round < 300; ++round) {
    Outcome background, demand;
    std::thread other([&] { pager_->want(0, 1, Priority::demand, demand.completion()); });
    const bool started = pager_->start_background_run(background.completion());
    other.join();
    EXPECT_TRUE(demand.wait().ok());
    if (started) {
      EXPECT_TRUE(background.wait().ok());
    }
    source_->wait_idle();
    for (size_t span = 0; span < spans(); ++span) layer_->drop_span(span);
  }
}

}  // namespace
}  // namespace pagein::fetch
