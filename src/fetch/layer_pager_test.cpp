#include "fetch/layer_pager.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <unistd.h>

#include "fetch/fetch_fixture.h"

namespace pagein::fetch {
namespace {

using namespace fetch::testing;
using net::Priority;
using ::testing::HasSubstr;

class LayerPagerTest : public FetchTest {
 protected:
  bool is_data(const registry::BlobRead& read) const {
    return read.digest == made_.index->layer_digest;
  }
  size_t data_reads(const FakeSource& source) const {
    return source.reads_of(made_.index->layer_digest);
  }
  // The pager on a layer whose data file takes no byte (and reads as zeros)
  // until mend_disk().
  void break_disk() {
    store::Layer::Files files;
    files.dir = dir_.path() / "broken";
    must(make_dirs(files.dir));
    files.data = must(open_file("/dev/full", O_RDWR));
    files.sums = must(open_file(files.dir / "sums", O_RDWR | O_CREAT, 0600));
    files.rest = must(open_file(files.dir / "rest", O_RDWR | O_CREAT, 0600));
    data_fd_ = files.data.get();
    layer_ = std::make_shared<store::Layer>(layer_->id(), made_.index, std::move(files),
                                            store::LayerState{},
                                            std::make_unique<store::Presence>(spans()));
    pager_ = LayerPager::make(*context_, layer_, {origin(source_)});
  }
  void mend_disk() {
    const UniqueFd good = must(open_file(dir_.path() / "broken" / "data", O_RDWR | O_CREAT, 0600));
    ASSERT_EQ(::ftruncate(good.get(), static_cast<off_t>(data_.size())), 0);
    ASSERT_GE(::dup3(good.get(), data_fd_, O_CLOEXEC), 0);
  }
  Status run_background() {
    Outcome outcome;
    if (!pager_->start_background_run(outcome.completion())) {
      return Error(Code::not_found, "nothing to start");
    }
    return outcome.wait();
  }
  void load_all() {
    for (;;) {
      const Status status = run_background();
      if (!status.ok()) {
        EXPECT_EQ(status.error().code, Code::not_found) << status.error().message;
        break;
      }
    }
    pager_->advance_proof();
  }

  int data_fd_ = -1;
};

TEST_F(LayerPagerTest, BringsWhatIsWanted) {
  for (const auto encoding : {codec::Encoding::gzip, codec::Encoding::identity}) {
    TearDown();
    pager_.reset();
    layer_.reset();
    store_.reset();
    open(make_test_layer(sample_tar(encoding == codec::Encoding::gzip ? 1 : 2),
                         {.encoding = encoding}));
    std::mt19937 random(5);
    for (int i = 0; i < 40; ++i) {
      const uint64_t offset = random() % data_.size();
      const uint64_t length = 1 + random() % std::min<uint64_t>(200'000, data_.size() - offset);
      const Status status = want(offset, length);
      ASSERT_TRUE(status.ok()) << status.error().message;
      EXPECT_TRUE(pager_->ready(offset, length));
      expect_bytes(offset, length);
    }
    ASSERT_TRUE(want(0, data_.size()).ok());
    expect_bytes(0, data_.size());
    EXPECT_EQ(counters().verify_failures, 0u);
    EXPECT_GT(counters().spans[0], 0u);
    EXPECT_GT(counters().bytes[0], 0u);
  }
}

TEST_F(LayerPagerTest, WhatIsThereOrZeroIsAnsweredAtOnce) {
  open(make_test_layer(sample_tar()));
  EXPECT_TRUE(want(data_.size(), 4096).ok()) << "behind the end";
  EXPECT_TRUE(want(0, 0).ok());
  EXPECT_EQ(source_->reads().size(), 0u);
}

TEST_F(LayerPagerTest, ManyWantsOneRead) {
  open(make_test_layer(sample_tar()));
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  const auto [offset, length] = data_of(3);
  std::vector<Outcome> outcomes(16);
  for (Outcome& outcome : outcomes) {
    pager_->want(offset, length, Priority::demand, outcome.completion());
  }
  EXPECT_EQ(data_reads(*source_), 1u);
  source_->set_script(nullptr);
  source_->release();
  for (Outcome& outcome : outcomes) EXPECT_TRUE(outcome.wait().ok());
  for (Outcome& outcome : outcomes) EXPECT_EQ(outcome.calls(), 1u);
  EXPECT_EQ(data_reads(*source_), 1u);
  EXPECT_EQ(counters().joined, 15u);
  expect_bytes(offset, length);
}

TEST_F(LayerPagerTest, AdjacentMissingSpansAreOneRead) {
  open(make_test_layer(sample_tar()));
  ASSERT_TRUE(want(0, data_.size()).ok());
  EXPECT_EQ(data_reads(*source_), 1u);
}

TEST_F(LayerPagerTest, WhatIsThereIsNotFetchedAgain) {
  open(make_test_layer(sample_tar()));
  must(layer_->write_span(4, made_.span(4)));
  ASSERT_TRUE(want(0, data_.size()).ok());
  EXPECT_EQ(data_reads(*source_), 2u) << "before it and behind it";
  expect_bytes(0, data_.size());
}

TEST_F(LayerPagerTest, AWaiterIsServedBeforeItsFlightEnds) {
  open(make_test_layer(sample_tar()));
  source_->set_script([&](size_t, const auto& read) { return Answer{.hold_end = is_data(read)}; });
  const auto [offset, length] = data_of(2);
  EXPECT_TRUE(want(offset, length).ok());
  expect_bytes(offset, length);
}

TEST_F(LayerPagerTest, SequentialReadersGetTwiceAsMuchEachTime) {
  open(make_test_layer(sample_tar()));
  ASSERT_GE(spans(), 16u);
  std::vector<size_t> brought;
  size_t before = 0;
  for (size_t span = 0; span < spans();) {
    const auto range = data_of(span);
    ASSERT_TRUE(want(range.first + range.second - 1, 1).ok());
    wait_flights_over();
    while (span < spans() && layer_->presence().test(span)) ++span;
    brought.push_back(layer_->presence().count() - before);
    before = layer_->presence().count();
    if (brought.size() == 4) break;
  }
  EXPECT_THAT(brought, ::testing::ElementsAre(1, 2, 4, 8));
}

TEST_F(LayerPagerTest, ReadAheadEndsAtItsLimitAndAtWhatIsThere) {
  ContextOptions options;
  options.max_read_ahead = 300 << 10;
  open(make_test_layer(sample_tar()), options);
  size_t most = 0;
  for (size_t span = 0; span < spans();) {
    const size_t before = layer_->presence().count();
    const auto range = data_of(span);
    ASSERT_TRUE(want(range.first + range.second - 1, 1).ok());
    wait_flights_over();
    while (span < spans() && layer_->presence().test(span)) ++span;
    most = std::max(most, layer_->presence().count() - before);
    if (before > 12) break;
  }
  EXPECT_LE(most, 6u);
  EXPECT_GE(most, 3u);
}

TEST_F(LayerPagerTest, RandomReadersGetNoMore) {
  open(make_test_layer(sample_tar()));
  for (const size_t span : {9, 5, 1, 7}) {
    const auto [offset, length] = data_of(span);
    ASSERT_TRUE(want(offset, 1).ok());
  }
  wait_flights_over();
  EXPECT_EQ(layer_->presence().count(), 4u);
}

TEST_F(LayerPagerTest, AWaitedForBackgroundFlightIsPromoted) {
  open(make_test_layer(sample_tar()));
  source_->set_script([&](size_t, const auto& read) {
    return Answer{.hold = read.priority == Priority::background, .hold_until_promoted = true};
  });
  Outcome background;
  ASSERT_TRUE(pager_->start_background_run(background.completion()));
  ASSERT_TRUE(want(0, 1).ok());
  EXPECT_TRUE(background.wait().ok()) << "the same flight";
  source_->wait_idle();
  EXPECT_EQ(data_reads(*source_), 1u) << "by the same read";
  EXPECT_EQ(source_->promoted(), source_->reads().size());
  EXPECT_EQ(source_->cancelled(), 0u);
}

TEST_F(LayerPagerTest, AWaitedForBackgroundFlightThatIsStuckIsAskedForAnew) {
  std::atomic<int64_t> late_s{0};
  ContextOptions options;
  options.now = [&] { return net::Clock::now() + std::chrono::seconds(late_s.load()); };
  open(make_test_layer(sample_tar()), options);
  source_->set_script([&](size_t, const auto& read) {
    return Answer{.hold = read.priority == Priority::background};
  });
  Outcome background;
  ASSERT_TRUE(pager_->start_background_run(background.completion()));
  EXPECT_EQ(data_reads(*source_), 1u);
  late_s = 2;
  ASSERT_TRUE(want(0, 1).ok());
  EXPECT_TRUE(background.wait().ok()) << "still the same flight";
  source_->wait_idle();
  EXPECT_EQ(data_reads(*source_), 2u);
  EXPECT_EQ(source_->reads().back().priority, Priority::demand);
  EXPECT_GE(source_->cancelled(), 1u);
  EXPECT_EQ(background.calls(), 1u);
}

TEST_F(LayerPagerTest, AFlightWhoseDataFlowsIsNotAskedForAnew) {
  open(make_test_layer(sample_tar(), {.encoding = codec::Encoding::identity}));
  // Some bytes of the first span, then nothing for a while.
  source_->set_script(
      [&](size_t, const auto&) { return Answer{.bytes = 30'000, .hold_end = true}; });
  Outcome background, demand;
  ASSERT_TRUE(pager_->start_background_run(background.completion()));
  source_->wait_quiet();
  pager_->want(0, 1, Priority::demand, demand.completion());
  EXPECT_EQ(source_->reads().size(), 1u);
  source_->set_script(nullptr);
  source_->release();  // short: asked for again, by the next attempt
  EXPECT_TRUE(demand.wait().ok());
  EXPECT_TRUE(background.wait().ok());
  EXPECT_EQ(source_->reads().size(), 2u);
  EXPECT_EQ(source_->reads().back().priority, Priority::demand);
}

TEST_F(LayerPagerTest, PrefetchDoesNotPromote) {
  open(make_test_layer(sample_tar()));
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  Outcome background, prefetch;
  ASSERT_TRUE(pager_->start_background_run(background.completion()));
  pager_->want(0, 1, Priority::prefetch, prefetch.completion());
  EXPECT_EQ(data_reads(*source_), 1u);
  source_->release();
  EXPECT_TRUE(prefetch.wait().ok());
  EXPECT_TRUE(background.wait().ok());
}

TEST_F(LayerPagerTest, BytesThatDoNotVerifyAreFetchedAgain) {
  open(make_test_layer(sample_tar(), {.encoding = codec::Encoding::identity}));
  const uint64_t bad = made_.index->spans[5].uncompressed_begin + 100;
  source_->set_script(
      [&](size_t index, const auto&) { return index == 0 ? Answer{.flip = bad} : Answer{}; });
  ASSERT_TRUE(want(0, data_.size()).ok());
  expect_bytes(0, data_.size());
  EXPECT_EQ(counters().verify_failures, 1u);
  ASSERT_EQ(source_->reads().size(), 2u);
  EXPECT_EQ(source_->reads()[1].offset, made_.index->spans[5].uncompressed_begin)
      << "only from the first span that did not verify";
}

TEST_F(LayerPagerTest, DamagedCompressedBytesToo) {
  open(make_test_layer(sample_tar()));
  std::atomic<bool> damage{false};
  std::atomic<uint64_t> at{0};
  source_->set_script([&](size_t, const auto& read) {
    return is_data(read) && damage.exchange(false) ? Answer{.flip = at.load()} : Answer{};
  });
  for (size_t i = 0; i < 12; ++i) {
    at = made_.blob.size() * (2 * i + 1) / 24;
    damage = true;
    ASSERT_TRUE(want(0, data_.size()).ok());
    expect_bytes(0, data_.size());
    for (size_t span = 0; span < spans(); ++span) layer_->drop_span(span);
  }
  EXPECT_GT(counters().verify_failures, 6u) << "some damage has no effect on the tar";
}

TEST_F(LayerPagerTest, ADamagedPayloadIsFetchedAgain) {
  open(make_test_layer(sample_tar()));
  size_t span = 1;
  while (made_.index->spans[span].payload_size < 100) ++span;
  const uint64_t at = made_.index->head_size + made_.index->spans[span].payload_offset + 50;
  source_->set_script([&](size_t index, const auto& read) {
    return index < 2 && !is_data(read) ? Answer{.flip = at} : Answer{};
  });
  const auto [offset, length] = data_of(span);
  ASSERT_TRUE(want(offset, length).ok());
  expect_bytes(offset, length);
}

TEST_F(LayerPagerTest, ShortAnswersAreAskedForAgain) {
  open(make_test_layer(sample_tar()));
  source_->set_script([&](size_t index, const auto& read) {
    return index < 2 && is_data(read) ? Answer{.bytes = read.length / 2} : Answer{};
  });
  ASSERT_TRUE(want(0, data_.size()).ok());
  expect_bytes(0, data_.size());
}

TEST_F(LayerPagerTest, ALyingOriginIsLeftForAnother) {
  open(make_test_layer(sample_tar(), {.encoding = codec::Encoding::identity}));
  const auto good = add_source("second");
  source_->set_script([](size_t, const auto& read) { return Answer{.flip = read.offset}; });
  pager_->set_origins({origin(source_), origin(good)});
  ASSERT_TRUE(want(0, data_.size()).ok());
  expect_bytes(0, data_.size());
  EXPECT_EQ(source_->reads().size(), 1u);
  EXPECT_EQ(good->reads().size(), 1u);
}

TEST_F(LayerPagerTest, AnOriginThatCannotGiveItIsLeftForAnother) {
  for (const Code code : {Code::not_found, Code::unauthenticated, Code::unavailable, Code::timeout,
                          Code::unsupported}) {
    TearDown();
    pager_.reset();
    layer_.reset();
    store_.reset();
    open(make_test_layer(sample_tar(static_cast<uint32_t>(code) + 1)));
    const auto good = add_source("second");
    source_->set_script([=](size_t, const auto&) {
      return Answer{.status = Error(code, "not from here"), .bytes = 0};
    });
    pager_->set_origins({origin(source_), origin(good)});
    const Status status = want(0, data_.size());
    EXPECT_TRUE(status.ok()) << status.error().message;
    expect_bytes(0, data_.size());
  }
}

TEST_F(LayerPagerTest, WhenAllOriginsFailTheReasonIsTheLastOnes) {
  open(make_test_layer(sample_tar()));
  const auto other = add_source("second");
  for (const auto& [source, code] :
       {std::pair(source_, Code::not_found), std::pair(other, Code::unauthenticated)}) {
    source->set_script([code = code](size_t, const auto&) {
      return Answer{.status = Error(code, "no"), .bytes = 0};
    });
  }
  pager_->set_origins({origin(source_), origin(other)});
  const Status status = want(0, 1);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::unauthenticated);
  EXPECT_THAT(status.error().message, HasSubstr("span 0 of layer sha256:"));
  EXPECT_THAT(status.error().message, HasSubstr("from second"));
}

TEST_F(LayerPagerTest, OriginsShareTheDeadline) {
  open(make_test_layer(sample_tar()), {.deadline = std::chrono::seconds(60)});
  const auto other = add_source("second");
  pager_->set_origins({origin(source_), origin(other)});
  source_->set_script([](size_t, const auto&) {
    return Answer{.status = Error(Code::timeout, "late"), .bytes = 0};
  });
  const auto begin = net::Clock::now();
  ASSERT_TRUE(want(0, 1).ok());
  EXPECT_LT(source_->reads()[0].deadline, begin + std::chrono::seconds(40));
  EXPECT_LE(other->reads()[0].deadline, begin + std::chrono::seconds(61));
}

// P2
TEST_F(LayerPagerTest, PersistentCorruptionIsAnErrorThatIsNotRemembered) {
  open(make_test_layer(sample_tar(), {.encoding = codec::Encoding::identity}));
  source_->set_script([](size_t, const auto& read) { return Answer{.flip = read.offset}; });
  EXPECT_EQ(want(0, 1).error().code, Code::corrupt_input);
  EXPECT_EQ(source_->reads().size(), 3u) << "the first, and verify_retries";
  EXPECT_EQ(layer_->presence().count(), 0u);
  source_->set_script(nullptr);
  EXPECT_TRUE(want(0, 1).ok());
  expect_bytes(0, 4096);
}

TEST_F(LayerPagerTest, AReadErrorIsAnErrorThatIsNotRemembered) {
  open(make_test_layer(sample_tar()));
  const auto [offset, length] = data_of(spans() / 2);
  ASSERT_GT(made_.index->spans[spans() / 2].payload_size, 0u);
  for (const bool payload : {true, false}) {
    source_->set_script([&](size_t, const auto& read) {
      if (is_data(read) == payload) return Answer{};
      return Answer{.status = Error(Code::unavailable, "the host is down"), .bytes = 1};
    });
    const Status status = want(offset, length);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::unavailable);
  }
  EXPECT_EQ(counters().verify_failures, 0u);
  source_->set_script(nullptr);
  EXPECT_TRUE(want(offset, length).ok());
}

TEST_F(LayerPagerTest, WithoutAnOriginWhatIsMissingIsUnavailable) {
  open(make_test_layer(sample_tar()));
  pager_->set_origins({});
  EXPECT_EQ(want(0, 1).error().code, Code::unavailable);
  EXPECT_FALSE(pager_->start_background_run([](Status) { ADD_FAILURE(); }));
  must(layer_->write_span(0, made_.span(0)));
  EXPECT_TRUE(want(0, 1).ok());
}

TEST_F(LayerPagerTest, NewOriginsCountForNewFlights) {
  open(make_test_layer(sample_tar()));
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  Outcome old;
  const auto first = data_of(0);
  pager_->want(first.first, 1, Priority::demand, old.completion());
  const auto other = add_source("second");
  pager_->set_origins({origin(other)});
  EXPECT_EQ(pager_->origin_name(), "second");
  const auto later = data_of(7);
  EXPECT_TRUE(want(later.first, later.second).ok());
  EXPECT_EQ(old.calls(), 0u);
  source_->release();
  EXPECT_TRUE(old.wait().ok()) << "the flight under way keeps its own";
}

TEST_F(LayerPagerTest, CancelAllEndsWhatHangs) {
  open(make_test_layer(sample_tar()));
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  Outcome a, b;
  pager_->want(0, 1, Priority::demand, a.completion());
  const auto later = data_of(7);
  pager_->want(later.first, 1, Priority::demand, b.completion());
  pager_->cancel_all();
  EXPECT_EQ(a.code(), Code::cancelled);
  EXPECT_EQ(b.code(), Code::cancelled);
  source_->wait_idle();
  EXPECT_EQ(source_->cancelled(), source_->reads().size());
  source_->set_script(nullptr);
  EXPECT_TRUE(want(0, 1).ok());
}

TEST_F(LayerPagerTest, OnlyUnwantedFlightsAreCancelled) {
  open(make_test_layer(sample_tar()));
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  Outcome background, demand;
  const auto last = data_of(spans() - 1);
  pager_->want(last.first, 1, Priority::demand, demand.completion());
  ASSERT_TRUE(pager_->start_background_run(background.completion()));
  pager_->cancel_unwanted();
  EXPECT_EQ(background.code(), Code::cancelled);
  source_->set_script(nullptr);
  source_->release();
  EXPECT_TRUE(demand.wait().ok());
}

TEST_F(LayerPagerTest, AStoppingContextCompletesEverybody) {
  open(make_test_layer(sample_tar()));
  source_->set_script(
      [](size_t index, const auto&) { return Answer{.hold = index % 2 == 0, .hold_end = true}; });
  std::vector<Outcome> outcomes(spans() / 2);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const auto [offset, length] = data_of(2 * i);
    pager_->want(offset, 1, Priority::demand, outcomes[i].completion());
  }
  Outcome background;
  ASSERT_TRUE(pager_->start_background_run(background.completion()));
  context_->stop();
  for (Outcome& outcome : outcomes) EXPECT_EQ(outcome.calls(), 1u);
  EXPECT_EQ(background.calls(), 1u);
  const auto missing = data_of(1);
  if (!layer_->presence().test(1)) {
    Outcome late;
    pager_->want(missing.first, 1, Priority::demand, late.completion());
    EXPECT_EQ(late.code(), Code::cancelled);
  }
  EXPECT_FALSE(pager_->start_background_run([](Status) { ADD_FAILURE(); }));
  // Callbacks of sources that come later touch nothing of the context.
  source_->release();
  source_->wait_idle();
}

TEST_F(LayerPagerTest, AFullDiskServesFromMemory) {
  open(make_test_layer(sample_tar()));
  break_disk();
  const auto [offset, length] = data_of(3);
  ASSERT_TRUE(want(offset, length).ok());
  EXPECT_FALSE(pager_->ready(offset, length));
  EXPECT_EQ(layer_->presence().count(), 0u);
  EXPECT_GT(counters().store_full, 0u);
  expect_bytes(offset, length);
  // Every alignment of a range with the span's edges.
  ASSERT_TRUE(want(0, 1 << 20).ok());
  for (uint64_t at = 0; at + 70'000 < (1 << 20); at += 33'333) expect_bytes(at, 70'000);

  mend_disk();
  load_all();
  EXPECT_TRUE(layer_->complete());
  expect_bytes(0, data_.size());
}

TEST_F(LayerPagerTest, AFullDiskIsAnErrorOfTheBackgroundLoad) {
  open(make_test_layer(sample_tar()));
  break_disk();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(run_background().error().code, Code::exhausted);
  Outcome background;
  // Also where a reader's flight ends in between.
  source_->set_script([](size_t, const auto& read) {
    return Answer{.hold_end = read.priority == Priority::background};
  });
  ASSERT_TRUE(pager_->start_background_run(background.completion()));
  source_->wait_quiet();
  const auto [offset, length] = data_of(spans() - 1);
  ASSERT_TRUE(want(offset, length).ok());
  source_->set_script(nullptr);
  source_->release();
  EXPECT_EQ(background.code(), Code::exhausted);
}

// The spans of a flight that could not be kept are free for another one before
// the first has ended.
TEST_F(LayerPagerTest, TwoFlightsThatBeginWithTheSameSpanBothEnd) {
  open(make_test_layer(sample_tar(), {.encoding = codec::Encoding::identity}));
  break_disk();
  // The first gets two spans and hangs then; those after it get nothing.
  const uint64_t part = made_.index->spans[2].uncompressed_begin + 5000;
  source_->set_script([&](size_t index, const auto&) {
    return index == 0 ? Answer{.bytes = part, .hold_end = true} : Answer{.hold = true};
  });
  std::vector<Outcome> runs(8);
  size_t started = 0;
  ASSERT_TRUE(pager_->start_background_run(runs[started++].completion()));
  while (counters().store_full < 2) std::this_thread::yield();
  while (source_->reads().back().offset != 0 || started == 1) {
    ASSERT_LT(started, runs.size());
    ASSERT_TRUE(pager_->start_background_run(runs[started++].completion()));
  }
  Outcome reader;
  pager_->want(0, 1, Priority::prefetch, reader.completion());
  source_->set_script([](size_t, const auto&) {
    return Answer{.status = Error(Code::unavailable, "down"), .bytes = 0};
  });
  source_->release();
  wait_flights_over();
  for (size_t i = 0; i < started; ++i) EXPECT_EQ(runs[i].calls(), 1u) << i;
  EXPECT_FALSE(runs[0].wait().ok());
  EXPECT_EQ(reader.calls(), 1u);
}

TEST_F(LayerPagerTest, TheRightDiffIdMakesItComplete) {
  open(make_test_layer(sample_tar()));
  // Out of order, so that the proof has to read back.
  const auto last = data_of(spans() - 1);
  ASSERT_TRUE(want(last.first, last.second).ok());
  load_all();
  EXPECT_TRUE(layer_->complete());
  EXPECT_TRUE(pager_->settled());
  expect_bytes(0, data_.size());
  EXPECT_FALSE(pager_->start_background_run([](Status) { ADD_FAILURE(); }));
}

TEST_F(LayerPagerTest, AnEmptyTarIsProvenWithoutARead) {
  open(make_test_layer(""));
  EXPECT_FALSE(pager_->start_background_run([](Status) { ADD_FAILURE(); }));
  pager_->advance_proof();
  EXPECT_TRUE(layer_->complete());
  EXPECT_TRUE(source_->reads().empty());
}

TEST_F(LayerPagerTest, ALyingIndexIsQuarantined) {
  open(make_test_layer(sample_tar(),
                       {.claimed_diff_id = oci::Digest::of(as_bytes("another layer"))}));
  load_all();
  EXPECT_TRUE(pager_->settled());
  EXPECT_FALSE(layer_->complete());
  ASSERT_TRUE(layer_->quarantined());
  EXPECT_THAT(layer_->quarantine_reason(), HasSubstr("but its index says"));
  EXPECT_EQ(want(0, 1).error().code, Code::corrupt_input);
  layer_->drop_span(0);
  EXPECT_FALSE(pager_->start_background_run([](Status) { ADD_FAILURE(); }));
}

// What a disk does to bytes is not the index's fault.
TEST_F(LayerPagerTest, BytesThatChangedOnDiskAreFetchedAgainAndNoLie) {
  open(make_test_layer(sample_tar()));
  load_all();
  ASSERT_TRUE(layer_->complete());
  // The same as after a restart: everything is there, nothing is proven.
  for (const char* file : {"data", "rest"}) {
    TearDown();
    pager_.reset();
    layer_.reset();
    store_.reset();
    open(make_test_layer(sample_tar(file[0])));
    for (size_t span = 0; span < spans(); ++span) must(layer_->write_span(span, made_.span(span)));
    const UniqueFd fd = must(open_file(layer_->data_path().parent_path() / file, O_WRONLY));
    must(pwrite_full(fd.get(), as_bytes("X"), 1000));
    pager_->advance_proof();
    EXPECT_FALSE(pager_->settled()) << file;
    EXPECT_EQ(layer_->presence().count(), spans() - 1);
    load_all();
    EXPECT_TRUE(layer_->complete()) << file;
    expect_bytes(0, data_.size());
  }
}

TEST_F(LayerPagerTest, AProofThatCannotBeKeptIsTriedAgain) {
  open(make_test_layer(sample_tar()));
  const auto folder = layer_->data_path().parent_path();
  const auto away = dir_.path() / "away";
  for (size_t span = 0; span < spans(); ++span) must(layer_->write_span(span, made_.span(span)));
  std::filesystem::rename(folder, away);
  pager_->advance_proof();
  EXPECT_FALSE(pager_->settled());
  std::filesystem::rename(away, folder);
  pager_->advance_proof();
  EXPECT_TRUE(layer_->complete());
}

TEST_F(LayerPagerTest, ClaimsTakenBackAfterTheProofAreLoadedAgain) {
  open(make_test_layer(sample_tar()));
  ASSERT_TRUE(want(0, data_.size()).ok());
  while (run_background().ok()) {
  }
  layer_->drop_span(2);
  pager_->advance_proof();
  EXPECT_FALSE(pager_->settled());
  load_all();
  EXPECT_TRUE(layer_->complete());
}

TEST(SpanSizes, OverlongSpansAreRefused) {
  index::LayerIndex index;
  index.tar_size = kMaxSpanBytes + 1;
  index.spans.push_back({});
  EXPECT_EQ(check_span_sizes(index).error().code, Code::unsupported);
  index.tar_size = kMaxSpanBytes;
  EXPECT_TRUE(check_span_sizes(index).ok());
}

}  // namespace
}  // namespace pagein::fetch
