#include "node/read_recorder.h"

#include <gtest/gtest.h>

#include "index/test_layer.h"
#include "store/layer_store.h"

namespace pagein::node {
namespace {

using index::testing::must;

class ReadRecorderTest : public testing::Test {
 protected:
  // The tar bytes that were read, of reads in order.
  bool covers(const startup::TraceRead& read, uint64_t data_offset, uint64_t length) const {
    const auto range = made_.index->layout.tar_range(data_offset, length);
    return read.diff_id == made_.index->diff_id && read.offset <= range->begin &&
           read.offset + read.length >= range->end;
  }

  TempDir dir_ = must(TempDir::make("rec-"));
  index::testing::TestLayer made_ = index::testing::make_test_layer(index::testing::sample_tar());
  std::unique_ptr<store::LayerStore> store_ = must(store::LayerStore::open(dir_.path()));
  std::shared_ptr<store::Layer> layer_ = must(store_->create(made_.head));
  ReadRecorder recorder_;
};

TEST_F(ReadRecorderTest, TellsRangesOfTheTarInOrder) {
  recorder_.note(*layer_, 200'000, 8192);
  recorder_.note(*layer_, 0, 4096);
  const auto reads = recorder_.reads();
  ASSERT_EQ(reads.size(), 2u);
  EXPECT_TRUE(covers(reads[0], 200'000, 8192));
  EXPECT_EQ(reads[0].length, 8192u);
  EXPECT_TRUE(covers(reads[1], 0, 4096));
  EXPECT_LE(reads[0].ms, reads[1].ms);
}

TEST_F(ReadRecorderTest, WhatGoesOnIsOneRead) {
  for (uint64_t offset = 0; offset < 300'000; offset += 4096) recorder_.note(*layer_, offset, 4096);
  EXPECT_EQ(recorder_.count(), 1u);
  EXPECT_TRUE(covers(recorder_.reads()[0], 0, 299'000));
  recorder_.note(*layer_, 0, 4096);
  EXPECT_EQ(recorder_.count(), 2u);
}

TEST_F(ReadRecorderTest, WhatNoLayerHasIsLeftOut) {
  recorder_.note(*layer_, made_.index->layout.data_size(), 4096);
  EXPECT_EQ(recorder_.count(), 0u);
}

TEST_F(ReadRecorderTest, ThereIsALimit) {
  for (size_t i = 0; i < kMaxRecordedReads + 10; ++i) recorder_.note(*layer_, 0, 4096);
  EXPECT_EQ(recorder_.count(), kMaxRecordedReads);
}

}  // namespace
}  // namespace pagein::node
