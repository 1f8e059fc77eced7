#include "fetch/background.h"

#include <gtest/gtest.h>

#include <optional>

#include "fetch/fetch_fixture.h"
#include "fetch/manual_time.h"

namespace pagein::fetch {
namespace {

using namespace fetch::testing;
using namespace std::chrono_literals;
using net::Priority;

class BackgroundTest : public FetchTest {
 protected:
  void start(TestLayer made, BackgroundOptions options = {}) {
    ContextOptions context_options;
    context_options.now = [this] { return time_.now(); };
    context_options.background_run = 150 << 10;
    open(std::move(made), context_options);
    background_ = std::make_unique<Background>(
        *context_,
        [this](std::chrono::milliseconds delay, std::function<void()> task) {
          time_.run_after(delay, std::move(task));
        },
        options,
        [this](const std::shared_ptr<LayerPager>& pager) {
          MutexLock lock(mutex_);
          settled_.push_back(pager);
          wake_.notify_all();
        });
  }
  void TearDown() override {
    if (background_) background_->pause();
    FetchTest::TearDown();
    background_.reset();
  }
  void wait_settled(size_t count) {
    MutexLock lock(mutex_);
    while (settled_.size() < count) wake_.wait(mutex_);
  }
  size_t settled() {
    MutexLock lock(mutex_);
    return settled_.size();
  }
  // A second layer in the same store and from the same source.
  std::shared_ptr<LayerPager> another(const TestLayer& made) {
    source_->add_blob(made.blob);
    source_->add_blob(made.index_blob);
    return LayerPager::make(*context_, must(store_->create(made.head)),
                            {{source_, made.index_digest(), made.index_blob.size(), "first"}});
  }
  // Moves the clock from timer to timer as they are set, none longer than
  // `most`, until so many layers have settled.
  void run_timers_until_settled(size_t count, std::chrono::milliseconds most) {
    while (settled() < count) {
      const auto next = time_.next();
      if (next && *next <= most) time_.advance(*next);
      else std::this_thread::yield();
    }
  }
  // That many of the layer blob; payloads are asked for beside them.
  void wait_reads(size_t count) {
    while (source_->reads_of(made_.index->layer_digest) < count) std::this_thread::yield();
  }
  // The flights that can end have, and what they caused is done.
  void wait_flights(size_t count) {
    while (background_->progress().flights != count) std::this_thread::yield();
  }
  void fail_reads() {
    source_->set_script([](size_t, const auto&) {
      return Answer{.status = Error(Code::unavailable, "down"), .bytes = 0};
    });
  }

  ManualTime time_;
  std::unique_ptr<Background> background_;
  Mutex mutex_;
  CondVar wake_;
  std::vector<std::shared_ptr<LayerPager>> settled_ GUARDED_BY(mutex_);
};

TEST_F(BackgroundTest, LoadsAllAndSettles) {
  start(make_test_layer(sample_tar()));
  const TestLayer second = make_test_layer(sample_tar(2));
  const auto other = another(second);
  background_->add(pager_);
  background_->add(pager_);
  background_->add(other);
  wait_settled(2);
  EXPECT_TRUE(layer_->complete());
  EXPECT_TRUE(other->layer().complete());
  expect_bytes(0, data_.size());
  wait_flights(0);
  EXPECT_EQ(background_->progress().layers, 0u);
  EXPECT_EQ(settled(), 2u) << "adding twice is adding once";
  EXPECT_EQ(counters().verify_failures, 0u);
  EXPECT_EQ(counters().spans[2], spans() + second.index->spans.size()) << "each once";
}

TEST_F(BackgroundTest, NoMoreFlightsThanAllowed) {
  start(make_test_layer(sample_tar()), {.max_flights = 2});
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  background_->add(pager_);
  EXPECT_EQ(background_->progress().flights, 2u);
  time_.advance(10s);
  EXPECT_EQ(background_->progress().flights, 2u);
  source_->set_script(nullptr);
  source_->release();
  wait_settled(1);
}

TEST_F(BackgroundTest, WhatHasNothingToLoadSettlesAtOnce) {
  start(make_test_layer(""));
  background_->add(pager_);
  wait_settled(1);
  EXPECT_TRUE(layer_->complete());
  EXPECT_TRUE(source_->reads().empty());
  // One that is complete already is reported, too.
  background_->add(pager_);
  wait_settled(2);
  EXPECT_EQ(background_->progress().layers, 0u);
}

TEST_F(BackgroundTest, LayersWithoutDataAreLoadedForTheirProof) {
  tar::TestArchive archive;
  archive.directory("a/").file("a/empty", "").end();
  start(make_test_layer(archive.bytes()));
  ASSERT_EQ(layer_->data_size(), 0u);
  background_->add(pager_);
  wait_settled(1);
  EXPECT_TRUE(layer_->complete());
}

TEST_F(BackgroundTest, WhileDemandIsBusyOneFlightAtATimeTrickles) {
  start(make_test_layer(sample_tar()));
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  context_->demand_begins();
  background_->add(pager_);
  EXPECT_EQ(background_->progress().flights, 1u) << "the link is not left idle for ever";
  time_.advance(200ms);
  EXPECT_EQ(background_->progress().flights, 1u) << "one, as long as it is under way";
  time_.advance(10s);
  EXPECT_EQ(background_->progress().flights, 1u);
  source_->release();
  wait_reads(2);  // due long since
  source_->release();
  wait_flights(0);
  while (time_.next() > 10ms) std::this_thread::yield();
  time_.advance(240ms);
  EXPECT_EQ(background_->progress().flights, 0u);
  time_.advance(10ms);
  EXPECT_EQ(background_->progress().flights, 1u);

  context_->demand_ends();
  time_.advance(20ms);
  EXPECT_GE(background_->progress().flights, 2u) << "all that is left to start";
  source_->set_script(nullptr);
  source_->release();
  wait_settled(1);
}

TEST_F(BackgroundTest, AFailingLayerRestsLongerAndLonger) {
  start(make_test_layer(sample_tar()), {.max_flights = 1});
  fail_reads();
  background_->add(pager_);
  for (const auto rest : {1000ms, 2000ms, 4000ms, 8000ms}) {
    wait_flights(0);
    while (time_.next() != rest) std::this_thread::yield();
    const size_t before = source_->reads().size();
    time_.advance(rest - 1ms);
    EXPECT_EQ(source_->reads().size(), before) << rest.count();
    time_.advance(1ms);
    EXPECT_GT(source_->reads().size(), before) << rest.count();
  }
  source_->set_script(nullptr);
  run_timers_until_settled(1, 16s);
  EXPECT_TRUE(layer_->complete());
}

TEST_F(BackgroundTest, FlightsThatFailTogetherAreOneFailure) {
  start(make_test_layer(sample_tar()), {.max_flights = 4});
  source_->set_script([](size_t, const auto&) {
    return Answer{.status = Error(Code::unavailable, "down"), .bytes = 0, .hold = true};
  });
  background_->add(pager_);
  EXPECT_EQ(background_->progress().flights, 4u);
  source_->set_script(nullptr);
  source_->release();
  wait_flights(0);
  run_timers_until_settled(1, 1s);
}

// One timer for all, set for the far end of a rest, must not hold up the rest.
TEST_F(BackgroundTest, ALayerAtRestHoldsUpNoOther) {
  // Long: the clock runs on from look to look while a flight takes its time.
  start(make_test_layer(sample_tar()), {.max_flights = 1, .first_rest = 24h});
  fail_reads();
  background_->add(pager_);
  while (time_.next() != 24h) std::this_thread::yield();
  context_->demand_begins();
  source_->set_script(nullptr);
  const auto other = another(make_test_layer(sample_tar(2)));
  background_->add(other);
  run_timers_until_settled(1, 1s);
  EXPECT_TRUE(other->layer().complete());
  EXPECT_FALSE(layer_->complete());
  context_->demand_ends();
}

TEST_F(BackgroundTest, ALayerThatWaitsForReadersFlightsSettlesAfterThem) {
  start(make_test_layer(sample_tar()));
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  Outcome reader;
  pager_->want(0, data_.size(), Priority::demand, reader.completion());
  background_->add(pager_);
  time_.advance(50ms);
  EXPECT_EQ(counters().flights[2], 0u) << "all spans are on their way";
  source_->release();
  ASSERT_TRUE(reader.wait().ok());
  run_timers_until_settled(1, 1s);
  EXPECT_TRUE(layer_->complete());
}

TEST_F(BackgroundTest, APromotedFlightCountsOnce) {
  start(make_test_layer(sample_tar()), {.max_flights = 1});
  source_->set_script([](size_t, const auto& read) {
    return Answer{.hold = read.priority == Priority::background, .hold_until_promoted = true};
  });
  background_->add(pager_);
  EXPECT_TRUE(want(0, 1).ok());
  source_->set_script(nullptr);
  source_->release();
  wait_settled(1);
  wait_flights(0);
}

TEST_F(BackgroundTest, ALyingIndexSettlesInQuarantine) {
  start(make_test_layer(sample_tar(), {.claimed_diff_id = oci::Digest::of(as_bytes("other"))}));
  background_->add(pager_);
  wait_settled(1);
  EXPECT_TRUE(layer_->quarantined());
  EXPECT_EQ(background_->progress().layers, 0u);
}

TEST_F(BackgroundTest, CancelledFlightsDoNotSpin) {
  start(make_test_layer(sample_tar()));
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  background_->add(pager_);
  const size_t before = source_->reads().size();
  pager_->cancel_all();
  wait_flights(0);
  EXPECT_EQ(source_->reads().size(), before);
  source_->set_script(nullptr);
  run_timers_until_settled(1, 1s);
}

TEST_F(BackgroundTest, PausedItStartsNothing) {
  start(make_test_layer(sample_tar()));
  background_->pause();
  background_->add(pager_);
  time_.advance(10s);
  EXPECT_TRUE(source_->reads().empty());
  EXPECT_TRUE(background_->progress().paused);
  background_->resume();
  wait_settled(1);
}

TEST_F(BackgroundTest, ARemovedLayerIsLeftAlone) {
  start(make_test_layer(sample_tar()), {.max_flights = 1});
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  background_->add(pager_);
  background_->remove(pager_);
  EXPECT_EQ(background_->progress().layers, 0u);
  source_->release();
  wait_flights(0);
  time_.advance(10s);
  EXPECT_EQ(counters().flights[2], 1u);
  EXPECT_EQ(settled(), 0u);
}

TEST_F(BackgroundTest, ALayerWithoutOriginsWaitsForOne) {
  start(make_test_layer(sample_tar()));
  pager_->set_origins({});
  background_->add(pager_);
  std::chrono::milliseconds longest{0};
  for (int looks = 0; looks < 10;) {
    const auto next = time_.next();
    if (!next) {
      std::this_thread::yield();
      continue;
    }
    longest = std::max(longest, *next);
    time_.advance(*next);
    ++looks;
  }
  EXPECT_EQ(longest, 1s) << "less and less often, but not never";
  pager_->set_origins({origin(source_)});
  run_timers_until_settled(1, 1s);
  EXPECT_TRUE(layer_->complete());
}

}  // namespace
}  // namespace pagein::fetch
