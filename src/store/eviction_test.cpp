// The store's limit: what is refused, what is evicted for it, and what is not.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "index/test_layer.h"
#include "store/layer_store.h"

namespace pagein::store {
namespace {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::sample_tar;
using index::testing::TestLayer;
using testing::HasSubstr;

class EvictionTest : public testing::Test {
 protected:
  void SetUp() override { open(SpaceMeter::kNoLimit); }
  void open(uint64_t max_bytes) {
    store_.reset();
    store_ = must(LayerStore::open(dir_.path(), {.max_bytes = max_bytes}));
  }
  // A complete layer that was last used at this time.
  std::string add(const TestLayer& made, time_t used) {
    auto layer = must(store_->create(made.head));
    for (size_t i = 0; i < made.index->spans.size(); ++i) must(layer->write_span(i, made.span(i)));
    must(layer->mark_complete());
    const std::string id = layer->id();
    layer.reset();
    set_use(id, used);
    return id;
  }
  void set_use(const std::string& id, time_t used) {
    const std::array<timespec, 2> times{timespec{used, 0}, timespec{used, 0}};
    const auto head = dir_.path() / "layers" / id / "head";
    ASSERT_EQ(::utimensat(AT_FDCWD, head.c_str(), times.data(), 0), 0);
  }
  bool is_empty(const std::string& id) { return must(store_->find(id))->presence().count() == 0; }

  const TestLayer a_ = make_test_layer(sample_tar(1));
  const TestLayer b_ = make_test_layer(sample_tar(2));
  const TestLayer c_ = make_test_layer(sample_tar(3));
  TempDir dir_ = TempDir::make("eviction-").value();
  std::unique_ptr<LayerStore> store_;
};

TEST_F(EvictionTest, TheLayerNotUsedForLongestIsEmptiedFirst) {
  const std::string a = add(a_, 300);
  const std::string b = add(b_, 100);
  const std::string c = add(c_, 200);
  const uint64_t used = store_->usage().bytes;
  const LayerStore::Evicted evicted = store_->evict(used - 1);
  EXPECT_EQ(evicted.layers, 1u);
  EXPECT_EQ(store_->usage().bytes, used - evicted.bytes);
  EXPECT_EQ(store_->space().used(), store_->usage().bytes);
  EXPECT_TRUE(is_empty(b));
  EXPECT_FALSE(is_empty(c));
  EXPECT_FALSE(is_empty(a));
}

TEST_F(EvictionTest, AnEmptiedLayerCanBeFilledAgain) {
  const std::string a = add(a_, 100);
  EXPECT_EQ(store_->evict(0).layers, 1u);
  EXPECT_EQ(store_->evict(0).layers, 0u) << "it is empty already";
  open(SpaceMeter::kNoLimit);
  EXPECT_EQ(add(a_, 100), a);
  const auto layer = must(store_->find(a));
  EXPECT_TRUE(layer->complete());
  Bytes data(layer->data_size());
  must(layer->read_data(0, data));
  EXPECT_EQ(data, a_.data());
}

TEST_F(EvictionTest, WhatSomebodyHoldsStays) {
  const std::string a = add(a_, 100);
  const auto held = must(store_->find(a));
  EXPECT_EQ(store_->empty(a).error().code, Code::failed_precondition);
  EXPECT_EQ(store_->evict(0).layers, 0u);
  Bytes data(held->data_size());
  must(held->read_data(0, data));
  EXPECT_EQ(data, a_.data());
}

TEST_F(EvictionTest, AQuarantinedLayerStays) {
  const std::string a = add(a_, 100);
  must(must(store_->find(a))->quarantine("it lied"));
  EXPECT_EQ(store_->evict(0).layers, 0u);
  EXPECT_EQ(must(store_->find(a))->quarantine_reason(), "it lied");
}

TEST_F(EvictionTest, UseIsNotedWhenALayerIsOpenedAndClosed) {
  const std::string a = add(a_, 100);
  const std::string b = add(b_, 200);
  static_cast<void>(must(store_->find(a)));
  EXPECT_EQ(store_->evict(store_->usage().bytes - 1).layers, 1u);
  EXPECT_FALSE(is_empty(a));
  EXPECT_TRUE(is_empty(b));
}

TEST_F(EvictionTest, AtItsLimitTheStoreRefusesAndCallsForRoom) {
  const std::string a = add(a_, 100);
  open(store_->usage().bytes + 64);
  const auto layer = must(store_->create(b_.head));
  store_->space().wait(std::chrono::milliseconds(0));
  const Status written = layer->write_span(0, b_.span(0));
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, Code::exhausted);
  EXPECT_THAT(written.error().message, HasSubstr("limit"));
  EXPECT_FALSE(layer->presence().test(0));
  ASSERT_TRUE(store_->space().wait(std::chrono::seconds(10)));
  EXPECT_EQ(store_->evict(store_->space().target()).layers, 1u);
  EXPECT_TRUE(layer->write_span(0, b_.span(0)).ok());
}

TEST_F(EvictionTest, ALimitThatIsLoweredCallsForRoom) {
  add(a_, 100);
  EXPECT_FALSE(store_->space().wait(std::chrono::milliseconds(0)));
  store_->space().set_limit(1);
  EXPECT_TRUE(store_->space().wait(std::chrono::seconds(10)));
}

TEST(SpaceMeter, CountsWhatIsAdmittedAndCallsALittleBeforeTheLimit) {
  SpaceMeter meter;
  meter.set_limit(1000);
  EXPECT_TRUE(meter.admit(950));
  EXPECT_FALSE(meter.wait(std::chrono::milliseconds(0)));
  EXPECT_TRUE(meter.admit(1));
  EXPECT_TRUE(meter.wait(std::chrono::milliseconds(0)));
  EXPECT_FALSE(meter.admit(50));
  EXPECT_EQ(meter.used(), 951u);
  meter.freed(100);
  EXPECT_TRUE(meter.admit(50));
  meter.freed(5000);
  EXPECT_EQ(meter.used(), 0u);
  meter.stop();
  EXPECT_FALSE(meter.wait(std::chrono::hours(1)));
}

}  // namespace
}  // namespace pagein::store
