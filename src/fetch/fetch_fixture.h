// A layer in a store, a context and sources to fetch it from. For tests only.
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "base/log.h"
#include "fetch/fake_source.h"
#include "fetch/layer_pager.h"
#include "index/test_layer.h"
#include "store/layer_store.h"

namespace pagein::fetch::testing {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::sample_tar;
using index::testing::TestLayer;

// Remembers how a completion ended, and how often.
class Outcome {
 public:
  LayerPager::Completion completion() {
    return [this](Status status) {
      MutexLock lock(mutex_);
      if (++calls_ == 1) status_ = std::move(status);
      wake_.notify_all();
    };
  }
  // Blocks until it has been called.
  Status wait() const {
    MutexLock lock(mutex_);
    while (calls_ == 0) wake_.wait(mutex_);
    return status_;
  }
  Code code() const {
    const Status status = wait();
    return status.ok() ? Code::already_exists : status.error().code;
  }
  size_t calls() const {
    MutexLock lock(mutex_);
    return calls_;
  }

 private:
  mutable Mutex mutex_;
  mutable CondVar wake_;
  Status status_ GUARDED_BY(mutex_);
  size_t calls_ GUARDED_BY(mutex_) = 0;
};

class FetchTest : public ::testing::Test {
 protected:
  FetchTest() { log::configure(log::Level::error, log::Format::text); }
  // Not in the constructor, so that a test can choose.
  void open(TestLayer made, ContextOptions options = {}) {
    made_ = std::move(made);
    data_ = made_.data();
    options.background_weight = Weight::normal;
    if (!generous_) {
      options.checkpoint_memory = 0;
      options.least_fetch = 1;
    }
    context_ = std::make_unique<Context>(options);
    store_ = must(store::LayerStore::open(dir_.path()));
    layer_ = must(store_->create(made_.head));
    source_ = add_source("first");
    pager_ = LayerPager::make(*context_, layer_, {origin(source_)});
  }
  void TearDown() override {
    if (context_) context_->stop();
    for (const auto& source : sources_) source->wait_idle();
  }

  std::shared_ptr<FakeSource> add_source(const std::string& name) {
    auto source = std::make_shared<FakeSource>(name);
    source->add_blob(made_.blob);
    source->add_blob(made_.index_blob);
    sources_.push_back(source);
    return source;
  }
  LayerOrigin origin(const std::shared_ptr<FakeSource>& source) const {
    return {source, made_.index_digest(), made_.index_blob.size(), source->describe()};
  }
  size_t spans() const { return made_.index->spans.size(); }
  // A data range that lies in this span alone; the layer must have one there.
  std::pair<uint64_t, uint64_t> data_of(size_t span) const {
    const auto range = made_.index->layout.data_range(made_.index->spans[span].uncompressed_begin,
                                                      made_.index->span_end(span));
    if (!range || range->end - range->begin < 2) ADD_FAILURE() << "span " << span << " has no data";
    return {range->begin, range->end - range->begin};
  }
  Status want(uint64_t offset, uint64_t length, net::Priority priority = net::Priority::demand) {
    Outcome outcome;
    pager_->want(offset, length, priority, outcome.completion());
    const Status status = outcome.wait();
    EXPECT_EQ(outcome.calls(), 1u);
    return status;
  }
  // All flights have ended, and whoever waited was told.
  void wait_flights_over() const {
    while (context_->flights() > 0) std::this_thread::yield();
  }
  void expect_bytes(uint64_t offset, uint64_t length) {
    Bytes out(length, 0xee);
    const Status copied = pager_->copy_out(offset, out);
    ASSERT_TRUE(copied.ok()) << copied.error().message;
    EXPECT_TRUE(std::equal(out.begin(), out.end(), data_.begin() + static_cast<ptrdiff_t>(offset)));
  }
  Counters& counters() { return context_->counters(); }

  // For tests that count requests: nothing is read that was not asked for.
  bool generous_ = false;
  TempDir dir_ = must(TempDir::make("fetch-"));
  TestLayer made_;
  Bytes data_;
  std::unique_ptr<Context> context_;
  std::unique_ptr<store::LayerStore> store_;
  std::shared_ptr<store::Layer> layer_;
  std::vector<std::shared_ptr<FakeSource>> sources_;
  std::shared_ptr<FakeSource> source_;
  std::shared_ptr<LayerPager> pager_;
};

}  // namespace pagein::fetch::testing
