#include "fetch/startup_loader.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include "fetch/background.h"
#include "fetch/fetch_fixture.h"
#include "fetch/manual_time.h"
#include "fetch/test_pack.h"

namespace pagein::fetch {
namespace {

using namespace fetch::testing;
using namespace std::chrono_literals;
using net::Priority;
using State = StartupLoader::State;

class StartupLoaderTest : public FetchTest {
 protected:
  void open_layer(ContextOptions options = {}) {
    options.now = [this] { return time_.now(); };
    open(make_test_layer(sample_tar()), options);
    ASSERT_GE(spans(), 16u);
  }
  // Each span a piece of its own.
  TestPack scattered(std::vector<uint32_t> of) const {
    std::vector<TestPiece> pieces;
    for (const uint32_t span : of) pieces.push_back({.layer = &made_, .first_span = span});
    return make_test_pack(pieces);
  }
  std::shared_ptr<StartupLoader> load(const TestPack& pack) {
    source_->add_blob(pack.blob);
    StartupPack what;
    what.location = pack.location;
    what.source = source_;
    what.layers = {pager_};
    what.image = "an image";
    StartupOptions options;
    options.run_after = [this](auto delay, auto task) { time_.run_after(delay, std::move(task)); };
    options.max_buffered = max_buffered_;
    options.least_gap = least_gap_;
    auto loader = StartupLoader::make(*context_, what, options, [this] { ++ended_; });
    loader->start();
    return loader;
  }
  static State wait(const StartupLoader& loader) {
    while (loader.progress().state == State::loading) std::this_thread::yield();
    return loader.progress().state;
  }
  // All that came has been looked at.
  void settle(const StartupLoader& loader, uint64_t spans) {
    while (loader.progress().spans < spans) std::this_thread::yield();
    source_->wait_quiet();
  }
  void hold_pack_at(const TestPack& pack, uint64_t offset) {
    source_->set_script([digest = pack.location.digest, offset](size_t, const auto& read) {
      Answer answer;
      if (read.digest == digest) answer.hold_at = offset;
      return answer;
    });
  }
  size_t layer_reads() const { return source_->reads_of(made_.index->layer_digest); }
  bool here(size_t span) const { return layer_->presence().test(span); }

  ManualTime time_;
  uint64_t max_buffered_ = 2 << 20;
  uint64_t least_gap_ = 1 << 20;
  std::atomic<int> ended_{0};
};

TEST_F(StartupLoaderTest, OneReadBringsAll) {
  open_layer();
  const TestPack pack = make_test_pack(
      {{.layer = &made_, .first_span = 9, .span_count = 3}, {.layer = &made_, .first_span = 2}});
  const auto loader = load(pack);
  EXPECT_EQ(wait(*loader), State::done) << loader->progress().error;
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(layer_->presence().count(), 4u);
  for (const size_t span : {2, 9, 10, 11}) {
    const auto [offset, length] = data_of(span);
    ASSERT_TRUE(pager_->ready(offset, length)) << span;
    expect_bytes(offset, length);
  }
  EXPECT_EQ(source_->reads_of(pack.location.digest), 1u);
  EXPECT_EQ(layer_reads(), 0u);
  const auto progress = loader->progress();
  EXPECT_EQ(progress.spans, 4u);
  EXPECT_EQ(progress.received, pack.blob.size());
  EXPECT_EQ(counters().bytes[1], pack.blob.size());
  EXPECT_EQ(counters().spans[1], 4u);
  EXPECT_FALSE(context_->startup_active());
}

TEST_F(StartupLoaderTest, HitsAreCountedOnce) {
  open_layer();
  const auto loader = load(scattered({3}));
  EXPECT_EQ(wait(*loader), State::done);
  const auto [offset, length] = data_of(3);
  pager_->count_startup_hit(offset, length);
  pager_->count_startup_hit(offset, length);
  EXPECT_EQ(counters().startup_hits, 1u);
  ASSERT_TRUE(want(data_of(7).first, 1).ok());
  EXPECT_EQ(counters().startup_misses, 1u);
}

TEST_F(StartupLoaderTest, LongRunsComeFromTheLayer) {
  open_layer();
  const auto loader =
      load(make_test_pack({{.layer = &made_, .first_span = 4, .span_count = 2, .stored = false},
                           {.layer = &made_, .first_span = 1},
                           {.layer = &made_, .first_span = 6, .span_count = 3, .stored = false}}));
  EXPECT_EQ(wait(*loader), State::done) << loader->progress().error;
  EXPECT_EQ(layer_->presence().count(), 6u);
  EXPECT_EQ(layer_reads(), 1u) << "both runs in one";
  for (const auto& read : source_->reads()) EXPECT_EQ(read.priority, Priority::prefetch);
  EXPECT_EQ(counters().flights[1], 1u);
}

TEST_F(StartupLoaderTest, ManyRunsAreFetchedAFewAtOnce) {
  open_layer();
  std::vector<TestPiece> pieces;
  for (uint32_t span = 0; span < 15; span += 2) {
    pieces.push_back({.layer = &made_, .first_span = span, .stored = false});
  }
  const TestPack pack = make_test_pack(pieces);
  source_->set_script([&](size_t, const auto& read) {
    return Answer{.hold = read.digest == made_.index->layer_digest};
  });
  const auto loader = load(pack);
  source_->wait_for_reads(3);
  source_->wait_quiet();
  EXPECT_EQ(layer_reads(), 2u);
  source_->set_script(nullptr);
  source_->release();
  EXPECT_EQ(wait(*loader), State::done);
  EXPECT_EQ(layer_reads(), 8u);
}

TEST_F(StartupLoaderTest, DemandWaitsForWhatIsNear) {
  generous_ = true;  // a request costs as much as the pack has bytes
  open_layer({.checkpoint_memory = 0});
  const TestPack pack = scattered({1, 3, 5});
  ASSERT_LT(pack.blob.size(), context_->options().least_fetch);
  hold_pack_at(pack, pack.end_of(0));
  const auto loader = load(pack);
  settle(*loader, 1);
  Outcome outcome;
  const auto [offset, length] = data_of(3);
  pager_->want(offset, length, Priority::demand, outcome.completion());
  EXPECT_EQ(layer_reads(), 0u);
  EXPECT_EQ(outcome.calls(), 0u);
  source_->release();
  EXPECT_TRUE(outcome.wait().ok());
  expect_bytes(offset, length);
  EXPECT_EQ(wait(*loader), State::done);
  EXPECT_EQ(layer_reads(), 0u);
  EXPECT_EQ(counters().startup_waits, 1u);
  EXPECT_EQ(counters().startup_misses, 0u);
}

TEST_F(StartupLoaderTest, DemandOvertakesWhatIsFar) {
  open_layer();
  const TestPack pack = scattered({1, 3, 5});
  hold_pack_at(pack, pack.end_of(0));
  const auto loader = load(pack);
  settle(*loader, 1);
  const auto [offset, length] = data_of(5);
  EXPECT_TRUE(want(offset, length).ok());
  expect_bytes(offset, length);
  EXPECT_EQ(layer_reads(), 1u);
  EXPECT_EQ(counters().startup_overtakes, 1u);
  EXPECT_EQ(source_->cancelled(), 0u) << "the pack goes on";
  source_->release();
  EXPECT_EQ(wait(*loader), State::done);
  EXPECT_EQ(loader->progress().spans, 2u) << "its copy is not used";
}

// S3
TEST_F(StartupLoaderTest, WhoWaitsTooLongGetsAFlight) {
  generous_ = true;
  open_layer({.checkpoint_memory = 0});
  const TestPack pack = scattered({1, 3, 5});
  hold_pack_at(pack, pack.end_of(0));
  const auto loader = load(pack);
  settle(*loader, 1);
  Outcome outcome;
  const auto [offset, length] = data_of(3);
  pager_->want(offset, length, Priority::demand, outcome.completion());
  EXPECT_EQ(layer_reads(), 0u);
  time_.advance(1s);
  EXPECT_TRUE(outcome.wait().ok());
  EXPECT_EQ(layer_reads(), 1u);
  source_->release();
  EXPECT_EQ(wait(*loader), State::done);
}

TEST_F(StartupLoaderTest, APackThatFailsLeavesWhatItBroughtAndWhoWaitedGetsAFlight) {
  generous_ = true;
  open_layer({.checkpoint_memory = 0});
  const TestPack pack = scattered({1, 3, 5});
  source_->set_script([&](size_t, const auto& read) {
    Answer answer;
    if (read.digest != pack.location.digest) return answer;
    answer.hold_at = answer.bytes = pack.end_of(0);
    answer.status = Error(Code::unavailable, "cut off");
    return answer;
  });
  const auto loader = load(pack);
  settle(*loader, 1);
  Outcome outcome;
  const auto [offset, length] = data_of(3);
  pager_->want(offset, length, Priority::demand, outcome.completion());
  source_->release();
  EXPECT_EQ(wait(*loader), State::failed);
  EXPECT_TRUE(outcome.wait().ok());
  EXPECT_EQ(layer_reads(), 1u);
  EXPECT_TRUE(here(1));
  EXPECT_EQ(counters().startup_failures, 1u);
  EXPECT_FALSE(pager_->expects(*loader, {0, spans()})) << "S1";
  ASSERT_TRUE(want(data_of(5).first, 1).ok()) << "by demand";
}

TEST_F(StartupLoaderTest, NothingIsTrusted) {
  open_layer();
  TestPack pack = scattered({1, 3});
  const auto failed = [&](const TestPack& bad) {
    const auto loader = load(bad);
    const State state = wait(*loader);
    EXPECT_FALSE(loader->progress().error.empty());
    EXPECT_FALSE(pager_->expects(*loader, {0, spans()}));
    return state == State::failed;
  };
  TestPack missing = pack;
  missing.location.digest = oci::Digest::of(as_bytes("no such blob"));
  EXPECT_TRUE(failed(missing));

  TestPack wrong_head = pack;
  wrong_head.location.head_digest = oci::Digest::of(as_bytes("x"));
  EXPECT_TRUE(failed(wrong_head));
  EXPECT_EQ(layer_->presence().count(), 0u);

  TestPack short_head = pack;
  short_head.location.head_size -= 1;
  EXPECT_TRUE(failed(short_head));

  EXPECT_TRUE(failed(make_test_pack({{.layer = &made_, .first_span = 3, .wrong = true}})));
  EXPECT_EQ(counters().verify_failures, 1u);

  // A frame of other spans' length.
  TestPack other = make_test_pack({{.layer = &made_, .first_span = 3, .span_count = 2}});
  other.head.pieces[0].span_count = 1;
  const Bytes frames(other.blob.begin() + static_cast<ptrdiff_t>(other.head.head_size),
                     other.blob.end());
  other.blob = must(startup::write_pack_head(&other.head));
  other.location.head_digest = oci::Digest::of(other.blob);
  other.blob.insert(other.blob.end(), frames.begin(), frames.end());
  other.location.digest = oci::Digest::of(other.blob);
  EXPECT_TRUE(failed(other));

  TestPack beyond = scattered({1});
  beyond.head.pieces[0].first_span = static_cast<uint32_t>(spans());
  const Bytes frame(beyond.blob.begin() + static_cast<ptrdiff_t>(beyond.head.head_size),
                    beyond.blob.end());
  beyond.blob = must(startup::write_pack_head(&beyond.head));
  beyond.location.head_digest = oci::Digest::of(beyond.blob);
  beyond.blob.insert(beyond.blob.end(), frame.begin(), frame.end());
  beyond.location.digest = oci::Digest::of(beyond.blob);
  EXPECT_TRUE(failed(beyond));

  EXPECT_EQ(layer_->presence().count(), 0u);
  EXPECT_TRUE(want(0, data_.size()).ok());
  expect_bytes(0, data_.size());
}

TEST_F(StartupLoaderTest, LayersThatAreNotServedArePassedOver) {
  open_layer();
  const TestLayer other = make_test_layer(sample_tar(77));
  const auto loader = load(make_test_pack({{.layer = &other, .first_span = 1},
                                           {.layer = &made_, .first_span = 3},
                                           {.layer = &other, .first_span = 5, .stored = false}}));
  EXPECT_EQ(wait(*loader), State::done) << loader->progress().error;
  EXPECT_EQ(loader->progress().spans, 1u);
  EXPECT_TRUE(here(3));
}

TEST_F(StartupLoaderTest, WhatIsHereIsNotReadAgain) {
  open_layer();
  least_gap_ = 0;
  const TestPack pack = scattered({1, 3, 5, 7, 9, 11});
  for (const size_t span : {1, 5, 7, 11}) must(layer_->write_span(span, made_.span(span)));
  hold_pack_at(pack, pack.head.head_size);  // so that the head alone comes of the first read
  const auto loader = load(pack);
  source_->wait_for_reads(2);
  source_->wait_quiet();
  source_->release();
  source_->wait_for_reads(3);
  source_->wait_quiet();
  source_->release();
  EXPECT_EQ(wait(*loader), State::done) << loader->progress().error;
  const auto reads = source_->reads();
  ASSERT_EQ(reads.size(), 3u);
  EXPECT_EQ(reads[1].offset, pack.begin_of(1));
  EXPECT_EQ(reads[1].length, pack.head.pieces[1].stored_size);
  EXPECT_EQ(reads[2].offset, pack.begin_of(4));
  EXPECT_EQ(reads[2].length, pack.head.pieces[4].stored_size);
  EXPECT_TRUE(here(3) && here(9));
}

TEST_F(StartupLoaderTest, SmallGapsAreReadOver) {
  open_layer();
  const TestPack pack = scattered({1, 3, 5, 7});
  for (const size_t span : {1, 5}) must(layer_->write_span(span, made_.span(span)));
  const auto loader = load(pack);
  EXPECT_EQ(wait(*loader), State::done) << loader->progress().error;
  EXPECT_EQ(source_->reads().size(), 1u);
  EXPECT_EQ(loader->progress().spans, 2u);
}

TEST_F(StartupLoaderTest, NothingMissingEndsWithTheHead) {
  open_layer();
  const TestPack pack = scattered({1, 3});
  for (const size_t span : {1, 3}) must(layer_->write_span(span, made_.span(span)));
  hold_pack_at(pack, pack.head.head_size);
  const auto loader = load(pack);
  EXPECT_EQ(wait(*loader), State::done);
  EXPECT_EQ(source_->cancelled(), 1u);
}

TEST_F(StartupLoaderTest, ASecondPackDoesNotBringTheSameAgain) {
  open_layer();
  const TestPack first = scattered({1, 3});
  hold_pack_at(first, first.head.head_size);
  const auto one = load(first);
  while (!pager_->expects(*one, {3, 4})) std::this_thread::yield();
  const auto two = load(scattered({3, 1, 5}));
  EXPECT_EQ(wait(*two), State::done);
  EXPECT_EQ(two->progress().spans, 1u);
  EXPECT_FALSE(here(1));
  source_->release();
  EXPECT_EQ(wait(*one), State::done);
  EXPECT_EQ(one->progress().spans, 2u);
}

TEST_F(StartupLoaderTest, MemoryIsBounded) {
  max_buffered_ = 20'000;
  open_layer();
  std::vector<uint32_t> all;
  for (uint32_t span = 0; span < spans(); ++span) all.push_back(span);
  const auto loader = load(scattered(all));
  EXPECT_EQ(wait(*loader), State::done);
  EXPECT_GT(source_->paused(), 0u);
  EXPECT_EQ(layer_->presence().count(), spans());
}

TEST_F(StartupLoaderTest, CancelLetsGo) {
  generous_ = true;
  open_layer({.checkpoint_memory = 0});
  const TestPack pack = scattered({1, 3});
  hold_pack_at(pack, pack.end_of(0));
  auto loader = load(pack);
  settle(*loader, 1);
  Outcome outcome;
  pager_->want(data_of(3).first, 1, Priority::demand, outcome.completion());
  loader->cancel();
  EXPECT_EQ(wait(*loader), State::cancelled);
  EXPECT_TRUE(outcome.wait().ok()) << "by a flight";
  EXPECT_EQ(layer_reads(), 1u);
  EXPECT_EQ(ended_, 1);
  EXPECT_EQ(counters().startup_failures, 0u);
  source_->wait_idle();
  wait_flights_over();
  const std::weak_ptr<StartupLoader> weak = loader;
  loader.reset();
  while (!weak.expired()) std::this_thread::yield();  // its workers go home
}

TEST_F(StartupLoaderTest, CancelBeforeStart) {
  open_layer();
  StartupPack what;
  what.location = scattered({1}).location;
  what.source = source_;
  what.layers = {pager_};
  StartupOptions options;
  options.run_after = [](auto, auto) {};
  const auto loader = StartupLoader::make(*context_, what, options, nullptr);
  loader->cancel();
  loader->start();
  EXPECT_EQ(source_->reads().size(), 0u);
  EXPECT_FALSE(context_->startup_active());
}

TEST_F(StartupLoaderTest, AStopCallsItOff) {
  generous_ = true;
  open_layer({.checkpoint_memory = 0});
  const TestPack pack = scattered({1, 3});
  hold_pack_at(pack, pack.end_of(0));
  const auto loader = load(pack);
  settle(*loader, 1);
  Outcome outcome;
  pager_->want(data_of(3).first, 1, Priority::demand, outcome.completion());
  context_->stop();
  EXPECT_EQ(outcome.code(), Code::cancelled);
  EXPECT_EQ(loader->progress().state, State::cancelled);
  const auto late = load(pack);
  EXPECT_EQ(late->progress().state, State::cancelled);
}

TEST_F(StartupLoaderTest, APackThatStallsIsGivenUp) {
  open_layer();
  const TestPack pack = scattered({1, 3});
  hold_pack_at(pack, pack.end_of(0));
  const auto loader = load(pack);
  settle(*loader, 1);
  time_.advance(2s);
  EXPECT_EQ(loader->progress().state, State::loading);
  time_.advance(10s);
  EXPECT_EQ(loader->progress().state, State::failed);
  EXPECT_TRUE(want(0, data_.size()).ok());
}

TEST_F(StartupLoaderTest, TheBackgroundWaits) {
  open_layer();
  const TestPack pack = scattered({1, 3});
  hold_pack_at(pack, pack.head.head_size);
  const auto loader = load(pack);
  source_->wait_quiet();
  Background background(
      *context_, [this](auto delay, auto task) { time_.run_after(delay, std::move(task)); }, {},
      nullptr);
  background.add(pager_);
  time_.advance(1s);
  EXPECT_EQ(layer_reads(), 0u);
  source_->release();
  EXPECT_EQ(wait(*loader), State::done);
  while (layer_reads() == 0) time_.advance(10ms);
}

TEST_F(StartupLoaderTest, AFullDiskEndsIt) {
  open_layer();
  const TestPack pack = scattered({1, 3});
  store::Layer::Files files;
  files.dir = dir_.path() / "broken";
  must(make_dirs(files.dir));
  files.data = must(open_file("/dev/full", O_RDWR));
  files.sums = must(open_file(files.dir / "sums", O_RDWR | O_CREAT, 0600));
  files.rest = must(open_file(files.dir / "rest", O_RDWR | O_CREAT, 0600));
  layer_ = std::make_shared<store::Layer>(layer_->id(), made_.index, std::move(files),
                                          store::LayerState{},
                                          std::make_unique<store::Presence>(spans()));
  pager_ = LayerPager::make(*context_, layer_, {origin(source_)});
  const auto loader = load(pack);
  EXPECT_EQ(wait(*loader), State::failed);
  EXPECT_FALSE(here(1));
}

// For the sanitizers: readers, packs and cancels at once.
TEST_F(StartupLoaderTest, ManyAtOnce) {
  open_layer();
  least_gap_ = 0;
  std::vector<TestPiece> pieces;
  for (uint32_t span = 0; span < spans(); ++span) {
    pieces.push_back({.layer = &made_,
                      .first_span = (span * 7) % static_cast<uint32_t>(spans()),
                      .stored = span % 5 != 0});
  }
  if (spans() % 7 == 0) pieces.resize(spans() / 7);
  const TestPack pack = make_test_pack(pieces);
  for (uint32_t round = 0; round < 30; ++round) {
    for (size_t span = 0; span < spans(); ++span) layer_->drop_span(span);
    const auto loader = load(pack);
    std::vector<std::thread> readers;
    for (uint32_t reader = 0; reader < 3; ++reader) {
      readers.emplace_back([&, reader] {
        std::mt19937 random(round * 10 + reader);
        for (int i = 0; i < 10; ++i) {
          const uint64_t offset = random() % (data_.size() - 5000);
          const Status status = want(offset, 5000);
          EXPECT_TRUE(status.ok() || status.error().code == Code::cancelled);
        }
      });
    }
    if (round % 3 == 0) loader->cancel();
    if (round % 3 == 1) pager_->cancel_all();
    for (auto& reader : readers) reader.join();
    const State state = wait(*loader);
    EXPECT_NE(state, State::failed) << loader->progress().error;
    wait_flights_over();
    EXPECT_FALSE(pager_->expects(*loader, {0, spans()}));
  }
  EXPECT_TRUE(want(0, data_.size()).ok());
  expect_bytes(0, data_.size());
}

}  // namespace
}  // namespace pagein::fetch
