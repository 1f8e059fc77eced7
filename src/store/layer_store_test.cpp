#include "store/layer_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <future>

#include "index/test_layer.h"

namespace pagein::store {
namespace {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::sample_tar;
using index::testing::TestLayer;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class LayerStoreTest : public testing::Test {
 protected:
  void reopen() {
    store_.reset();
    store_ = must(LayerStore::open(dir_.path()));
  }
  void SetUp() override { reopen(); }
  std::filesystem::path folder(const std::string& id) const { return dir_.path() / "layers" / id; }
  // A layer with these spans written and closed in this way.
  enum class Close { clean, synced, not_at_all };
  std::string left_behind(const TestLayer& made, Close close, bool complete = false) {
    auto layer = must(store_->create(made.head));
    for (size_t i = 0; i < made.index->spans.size(); ++i) {
      if (complete || i % 4 != 3) must(layer->write_span(i, made.span(i)));
    }
    if (complete) must(layer->mark_complete());
    if (close == Close::clean) must(store_->close_cleanly());
    if (close == Close::synced) must(store_->sync_all());
    const std::string id = layer->id();
    layer.reset();
    reopen();
    return id;
  }
  void flip(const std::filesystem::path& path, uint64_t bit) {
    const UniqueFd fd = must(open_file(path, O_RDWR));
    uint8_t byte;
    must(pread_full(fd.get(), {&byte, 1}, bit / 8));
    byte ^= static_cast<uint8_t>(1 << (bit % 8));
    must(pwrite_full(fd.get(), {&byte, 1}, bit / 8));
  }
  void expect_claims_are_right(const Layer& layer, const TestLayer& made) {
    for (size_t i = 0; i < made.index->spans.size(); ++i) {
      if (!layer.presence().test(i)) continue;
      Bytes found(made.span(i).size());
      ASSERT_TRUE(layer.read_span(i, found).ok());
      EXPECT_TRUE(std::equal(found.begin(), found.end(), made.span(i).begin())) << i;
    }
  }

  TempDir dir_ = TempDir::make("store-").value();
  std::unique_ptr<LayerStore> store_;
};

TEST_F(LayerStoreTest, CreatesFindsListsAndRemoves) {
  const TestLayer a = make_test_layer(sample_tar(1));
  const TestLayer b = make_test_layer(sample_tar(2));
  auto layer = must(store_->create(a.head));
  EXPECT_EQ(layer->id(), LayerStore::id_of(a.head));
  EXPECT_EQ(must(store_->create(a.head)), layer) << "the same layer is shared";
  EXPECT_EQ(must(store_->find(layer->id())), layer);
  const std::string other = must(store_->create(b.head))->id();
  EXPECT_THAT(store_->list(), UnorderedElementsAre(layer->id(), other));
  EXPECT_EQ(store_->usage().layers, 2u);
  EXPECT_GT(store_->usage().bytes, 0u);

  const std::string id = layer->id();
  EXPECT_EQ(store_->remove(id).error().code, Code::failed_precondition) << "in use";
  layer.reset();
  EXPECT_TRUE(store_->remove(id).ok());
  EXPECT_THAT(store_->list(), UnorderedElementsAre(other));
  EXPECT_EQ(store_->find(id).error().code, Code::not_found);
  EXPECT_EQ(store_->remove(id).error().code, Code::not_found);
}

TEST_F(LayerStoreTest, NamesThatAreNoneLeadNowhere) {
  for (const char* name : {"", "..", "../lock", "ab", ".new-x"}) {
    EXPECT_EQ(store_->find(name).error().code, Code::not_found) << name;
    EXPECT_EQ(store_->remove(name).error().code, Code::not_found) << name;
  }
  const std::string upper(64, 'A');
  EXPECT_EQ(store_->find(upper).error().code, Code::not_found);
}

TEST_F(LayerStoreTest, ABadHeadMakesNoLayer) {
  EXPECT_EQ(store_->create(as_bytes("no index")).error().code, Code::corrupt_input);
  EXPECT_TRUE(store_->list().empty());
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path() / "layers"));
}

TEST_F(LayerStoreTest, ASecondProcessIsRefused) {
  const auto second = LayerStore::open(dir_.path());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Code::failed_precondition);
  EXPECT_THAT(second.error().message, HasSubstr("another pageind"));
  store_.reset();
  EXPECT_TRUE(LayerStore::open(dir_.path()).ok());
}

TEST_F(LayerStoreTest, HalfMadeAndHalfRemovedFoldersGoAtTheNextStart) {
  const auto layers = dir_.path() / "layers";
  std::filesystem::create_directories(layers / ".new-abc" / "deep");
  std::filesystem::create_directories(layers / "something else");
  reopen();
  EXPECT_FALSE(std::filesystem::exists(layers / ".new-abc"));
  EXPECT_TRUE(std::filesystem::exists(layers / "something else")) << "not ours to remove";
  EXPECT_TRUE(store_->list().empty());
}

TEST_F(LayerStoreTest, ARemovalThatStoppedHalfwayCanBeRepeated) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = must(store_->create(made.head))->id();
  std::filesystem::create_directories(dir_.path() / "layers" / (".new-" + id) / "left");
  EXPECT_TRUE(store_->remove(id).ok());
  EXPECT_TRUE(std::filesystem::is_empty(dir_.path() / "layers"));
}

TEST_F(LayerStoreTest, ACleanStopIsTrusted) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::clean);
  flip(folder(id) / "data", 8 * 5);  // nobody looks
  const auto layer = must(store_->find(id));
  EXPECT_EQ(layer->presence().count(), made.index->spans.size() - made.index->spans.size() / 4);
}

TEST_F(LayerStoreTest, AfterACrashSpansThatChangedAreDropped) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::synced);
  const uint64_t at = 100'000;
  flip(folder(id) / "data", 8 * at);
  const auto layer = must(store_->find(id));
  const size_t changed = layer->spans_of(at, 1).first;
  EXPECT_FALSE(layer->presence().test(changed));
  EXPECT_EQ(layer->presence().count(), made.index->spans.size() - made.index->spans.size() / 4 - 1);
  expect_claims_are_right(*layer, made);
}

TEST_F(LayerStoreTest, WhatWasNeverSyncedIsNotClaimed) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::not_at_all);
  EXPECT_EQ(must(store_->find(id))->presence().count(), 0u);
}

TEST_F(LayerStoreTest, AfterACrashAShortSumsFileCostsOnlyItsSpans) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::synced);
  std::filesystem::resize_file(folder(id) / "sums", 16 * 5);
  const auto layer = must(store_->find(id));
  EXPECT_EQ(layer->presence().count(), 4u) << "0, 1, 2, 4";
  expect_claims_are_right(*layer, made);
}

// Whatever bit flips in the small files, a layer is never called complete or
// present wrongly: it is gone.
TEST_F(LayerStoreTest, DamageToACompleteLayersFilesDropsIt) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::clean, true);
  const auto copy = dir_.path() / "copy";
  std::filesystem::copy(folder(id), copy);
  for (const char* name : {"head", "present", "state.json"}) {
    const uint64_t bits = 8 * std::filesystem::file_size(folder(id) / name);
    for (uint64_t bit = 0; bit < bits; bit += 1 + bits / 60) {
      SCOPED_TRACE(std::string(name) + " bit " + std::to_string(bit));
      flip(folder(id) / name, bit);
      const auto layer = store_->find(id);
      ASSERT_FALSE(layer.ok());
      EXPECT_EQ(layer.error().code, Code::not_found) << layer.error().message;
      EXPECT_FALSE(std::filesystem::exists(folder(id)));
      std::filesystem::copy(copy, folder(id));
    }
  }
  EXPECT_TRUE(must(store_->find(id))->complete());
}

TEST_F(LayerStoreTest, RestLeftByACrashIsEmptiedAtTheNextStart) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::clean, true);
  // As if the crash came between the state and the truncation.
  const auto rest = folder(id) / "rest";
  std::filesystem::resize_file(rest, 5000);
  EXPECT_TRUE(must(store_->find(id))->complete());
  EXPECT_EQ(std::filesystem::file_size(rest), 0u);
}

TEST_F(LayerStoreTest, FilesOfTheWrongSizeOrMissingDropTheLayer) {
  const TestLayer made = make_test_layer(sample_tar());
  auto gone_after = [&](const char* name, auto&& damage) {
    SCOPED_TRACE(name);
    const std::string id = left_behind(made, Close::clean, true);
    damage(folder(id) / name);
    const auto layer = store_->find(id);
    ASSERT_FALSE(layer.ok());
    EXPECT_EQ(layer.error().code, Code::not_found) << layer.error().message;
    const auto again = store_->create(made.head);
    ASSERT_TRUE(again.ok()) << again.error().message;
    EXPECT_EQ((*again)->presence().count(), 0u);
  };
  for (const char* name : {"head", "data", "sums", "present", "state.json"}) {
    gone_after(name, [](const auto& path) { std::filesystem::remove(path); });
  }
  for (const char* name : {"head", "data", "present", "state.json"}) {
    gone_after(name, [](const auto& path) { std::filesystem::resize_file(path, 1); });
    gone_after(name, [](const auto& path) {
      std::filesystem::resize_file(path, std::filesystem::file_size(path) + (2 << 20));
    });
  }
  gone_after("state.json", [](const auto& path) {
    must(replace_file(path, as_bytes("{\"version\": 2, \"complete\": true}")));
  });
}

TEST_F(LayerStoreTest, ACompleteLayerWithGapsIsDropped) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::clean);
  must(replace_file(folder(id) / "state.json", as_bytes("{\"version\": 1, \"complete\": true}")));
  EXPECT_EQ(store_->find(id).error().code, Code::not_found);
}

TEST_F(LayerStoreTest, SyncAllLeavesNothingUnsynced) {
  const TestLayer made = make_test_layer(sample_tar());
  const auto layer = must(store_->create(made.head));
  must(layer->write_span(2, made.span(2)));
  must(store_->sync_all());
  EXPECT_EQ(layer->unsynced_bytes(), 0u);
  Presence durable(made.index->spans.size());
  ASSERT_TRUE(durable.load(folder(layer->id()) / "present").ok());
  EXPECT_TRUE(durable.test(2));
  EXPECT_EQ(durable.count(), 1u);
}

// What only a broken store does not do in time.
constexpr std::chrono::seconds kPatience(20);

TEST_F(LayerStoreTest, OpeningOneLayerDoesNotHoldUpOthers) {
  const TestLayer slow = make_test_layer(sample_tar(1));
  const TestLayer quick = make_test_layer(sample_tar(2));
  const std::string slow_id = left_behind(slow, Close::synced);
  const std::string quick_id = left_behind(quick, Close::clean);
  // Who opens this layer waits until somebody writes into the fifo.
  const auto head = folder(slow_id) / "head";
  std::filesystem::remove(head);
  ASSERT_EQ(::mkfifo(head.c_str(), 0600), 0);
  auto opening = std::async(std::launch::async, [&] { return store_->find(slow_id); });
  UniqueFd writer;  // opened once the other end is: the layer is being opened
  while (!writer) writer = UniqueFd(::open(head.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC));
  auto others = std::async(std::launch::async, [&] {
    return store_->find(quick_id).ok() && store_->create(quick.head).ok() &&
           store_->sync_all().ok() && store_->create(make_test_layer(sample_tar(3)).head).ok();
  });
  const bool in_time = others.wait_for(kPatience) == std::future_status::ready;
  EXPECT_TRUE(in_time) << "they wait for the layer that is being opened";
  writer.reset();  // an empty head: the layer is damaged
  EXPECT_EQ(opening.get().error().code, Code::not_found);
  EXPECT_TRUE(others.get());
}

TEST_F(LayerStoreTest, ALayerIsOpenedOnceHoweverManyAskForIt) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::synced);
  for (int round = 0; round < 20; ++round) {
    std::vector<std::future<std::shared_ptr<Layer>>> asked;
    for (int i = 0; i < 4; ++i) {
      asked.push_back(std::async(std::launch::async, [&, i] {
        return must(i % 2 == 0 ? store_->find(id) : store_->create(made.head));
      }));
    }
    std::set<std::shared_ptr<Layer>> found;
    for (auto& one : asked) found.insert(one.get());
    EXPECT_EQ(found.size(), 1u);
    found.clear();
    reopen();
  }
}

TEST_F(LayerStoreTest, ASyncIsDueAfterSoManyBytes) {
  const TestLayer a = make_test_layer(sample_tar(1));
  const TestLayer b = make_test_layer(sample_tar(2));
  const uint64_t limit = a.span(0).size() + b.span(0).size() + 1;
  store_.reset();
  store_ = must(LayerStore::open(dir_.path(), {.sync_after = limit}));
  const auto first = must(store_->create(a.head));
  const auto second = must(store_->create(b.head));
  auto due_before_the_timer = [&] {
    const auto begin = std::chrono::steady_clock::now();
    store_->wait_for_sync(kPatience);
    return std::chrono::steady_clock::now() - begin < kPatience;
  };
  must(first->write_span(0, a.span(0)));
  must(second->write_span(0, b.span(0)));
  store_->wait_for_sync(std::chrono::milliseconds(0));  // not yet due: the timer's turn
  must(second->write_span(1, b.span(1)));
  EXPECT_TRUE(due_before_the_timer()) << "counted over all layers";
  must(store_->sync_all());
  // A layer that goes takes its bytes with it.
  must(first->write_span(1, a.span(1)));
  must(second->write_span(2, b.span(2)));
  EXPECT_TRUE(due_before_the_timer());
  must(store_->sync_all());
  auto writer = std::async(std::launch::async, [&] {
    for (size_t i = 2; i < a.index->spans.size(); ++i) must(first->write_span(i, a.span(i)));
  });
  EXPECT_TRUE(due_before_the_timer()) << "wakes who waits already";
  writer.get();
  store_->stop_waiting();
  EXPECT_TRUE(due_before_the_timer()) << "at once from now on";
  EXPECT_TRUE(due_before_the_timer());
}

TEST(SyncMeter, FailedSyncsWakeNobody) {
  SyncMeter meter(100);
  const auto none = std::chrono::milliseconds(0);
  meter.wrote(99);
  meter.wrote(1);
  meter.wait(kPatience);  // returns at once
  // The sync failed: still above the limit. Only the timer wakes, no loop.
  meter.wrote(50);
  meter.wait(none);
  EXPECT_EQ(meter.bytes(), 150u);
  meter.settled(150);
  meter.wrote(100);
  meter.wait(kPatience);
}

// The bytes of the first extent become a hole, as if they had never been
// written; the file keeps its size.
void lose_a_block(const std::filesystem::path& data, const TestLayer& made) {
  const UniqueFd fd = must(open_file(data, O_RDWR));
  const auto at = static_cast<off_t>(made.index->layout.extents().front().data_offset);
  if (::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 4096) != 0) {
    GTEST_SKIP() << "this file system cannot punch holes";
  }
}

TEST_F(LayerStoreTest, AfterACrashACompleteLayerWithLostBlocksIsLoadedAgain) {
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = left_behind(made, Close::synced, true);
  ASSERT_TRUE(must(store_->find(id))->complete()) << "nothing was lost";
  reopen();
  lose_a_block(folder(id) / "data", made);
  if (IsSkipped()) return;
  const auto layer = must(store_->find(id));
  EXPECT_FALSE(layer->complete());
  EXPECT_EQ(layer->presence().count(), 0u) << "its proof needs all of it again";
  for (size_t i = 0; i < made.index->spans.size(); ++i) must(layer->write_span(i, made.span(i)));
  must(layer->mark_complete());
}

TEST_F(LayerStoreTest, ZerosThatAreStoredAsAHoleAreNoLoss) {
  tar::TestArchive archive;
  archive.file("zeros", std::string(300'000, '\0')).end();
  const TestLayer made = make_test_layer(archive.bytes());
  const std::string id = left_behind(made, Close::synced, true);
  lose_a_block(folder(id) / "data", made);
  if (IsSkipped()) return;
  EXPECT_TRUE(must(store_->find(id))->complete());
}

}  // namespace
}  // namespace pagein::store
