#include "store/layer_store.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
  std::filesystem::path folder(const std::string& id) const {
    return dir_.path() / "layers" / id;
  }
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

}  // namespace
}  // namespace pagein::store
