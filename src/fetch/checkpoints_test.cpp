#include "fetch/checkpoints.h"

#include "fetch/fetch_fixture.h"

namespace pagein::fetch {
namespace {

using namespace fetch::testing;
using net::Priority;

class CheckpointsTest : public FetchTest {
 protected:
  CheckpointsTest() { generous_ = true; }

  void open_with(ContextOptions options) {
    options.least_fetch = 1;
    open(make_test_layer(sample_tar()), options);
  }
  size_t index_reads() const { return source_->reads().size() - data_reads(); }
  size_t data_reads() const { return source_->reads_of(made_.index->layer_digest); }
  Status want_span(size_t span) {
    const auto [offset, length] = data_of(span);
    return want(offset, length);
  }
};

TEST_F(CheckpointsTest, ReadOnceTheyServeEveryFlight) {
  open_with({});
  ASSERT_TRUE(want_span(1).ok());
  source_->wait_idle();
  const size_t before = index_reads();
  for (const size_t span : {9, 5, 3, 7}) ASSERT_TRUE(want_span(span).ok());
  expect_bytes(data_of(9).first, data_of(9).second);
  EXPECT_EQ(index_reads(), before);
  EXPECT_EQ(data_reads(), 5u);
}

TEST_F(CheckpointsTest, AFlightDoesNotWaitForThem) {
  open_with({});
  source_->set_script(
      [](size_t, const auto& read) { return Answer{.hold = read.priority == Priority::prefetch}; });
  for (const size_t span : {1, 9, 5}) ASSERT_TRUE(want_span(span).ok());
  source_->release();
}

TEST_F(CheckpointsTest, DamagedOnesAreNotUsedTwice) {
  open_with({});
  size_t span = 3;
  while (made_.index->spans[span].payload_size < 100) ++span;
  const uint64_t at = made_.index->head_size + made_.index->spans[span].payload_offset + 50;
  source_->set_script([&](size_t, const auto& read) {
    return read.priority == Priority::prefetch ? Answer{.flip = at} : Answer{};
  });
  ASSERT_TRUE(want_span(0).ok());
  source_->wait_idle();
  ASSERT_TRUE(want_span(span).ok());
  expect_bytes(data_of(span).first, data_of(span).second);
  for (size_t i = 0; i < spans(); ++i) layer_->drop_span(i);
  const uint64_t failures = counters().verify_failures;
  ASSERT_TRUE(want_span(span).ok());
  EXPECT_EQ(counters().verify_failures, failures) << "forgotten at the first failure";
}

TEST_F(CheckpointsTest, WithoutRoomEachFlightReadsItsOwn) {
  open_with({.checkpoint_memory = 1});
  for (const size_t span : {1, 9, 5}) ASSERT_TRUE(want_span(span).ok());
  for (const auto& read : source_->reads()) EXPECT_NE(read.priority, Priority::prefetch);
}

TEST_F(CheckpointsTest, ACompleteLayerGivesItsRoomBack) {
  open_with({});
  const uint64_t all = context_->options().checkpoint_memory;
  const auto& budget = *context_->checkpoint_budget();
  ASSERT_TRUE(want(0, data_.size()).ok());
  source_->wait_idle();
  EXPECT_EQ(budget.left(), all - made_.index->checkpoints_size);
  Outcome rest;
  while (pager_->start_background_run(rest.completion())) wait_flights_over();
  pager_->advance_proof();
  EXPECT_TRUE(layer_->complete());
  EXPECT_EQ(budget.left(), all);
}

TEST_F(CheckpointsTest, TheBudgetIsNeverOverdrawn) {
  CheckpointBudget budget(100);
  EXPECT_TRUE(budget.take(60));
  EXPECT_FALSE(budget.take(41));
  EXPECT_TRUE(budget.take(40));
  budget.give_back(60);
  EXPECT_EQ(budget.left(), 60u);
}

TEST_F(CheckpointsTest, ATransferBringsWhatARoundTripDelivers) {
  open_with({});
  source_->set_link({.first_byte = std::chrono::milliseconds(90),
                     .least_first_byte = std::chrono::milliseconds(10),
                     .bytes_per_second = 0,
                     .peak_bytes_per_second = 100.0 * static_cast<double>(made_.blob.size()) / 2});
  ASSERT_TRUE(want_span(0).ok());
  wait_flights_over();
  EXPECT_GT(layer_->presence().count(), spans() / 3) << "half of the blob";
  EXPECT_LT(layer_->presence().count(), spans());
  EXPECT_EQ(data_reads(), 1u);
}

}  // namespace
}  // namespace pagein::fetch
