#include "store/layer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "index/test_layer.h"
#include "store/layer_store.h"
#include "tar/test_archive.h"

namespace pagein::store {
namespace {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::sample_tar;
using index::testing::TestLayer;

class LayerTest : public testing::Test {
 protected:
  std::shared_ptr<Layer> create(const TestLayer& made) {
    if (!store_) store_ = must(LayerStore::open(dir_.path()));
    return must(store_->create(made.head));
  }
  std::filesystem::path folder(const Layer& layer) const {
    return dir_.path() / "layers" / layer.id();
  }
  static void write_all(Layer& layer, const TestLayer& made) {
    for (size_t i = 0; i < made.index->spans.size(); ++i) must(layer.write_span(i, made.span(i)));
  }
  static Bytes read_data(const Layer& layer) {
    Bytes out(layer.data_size());
    must(layer.read_data(0, out));
    return out;
  }
  static uint64_t file_size(const std::filesystem::path& path) {
    return std::filesystem::file_size(path);
  }

  TempDir dir_ = TempDir::make("layer-").value();
  std::unique_ptr<LayerStore> store_;
};

// In order and in the opposite one: neighbours' bytes must survive.
TEST_F(LayerTest, SpansBecomeTheDataFileAndComeBack) {
  for (const auto encoding : {codec::Encoding::gzip, codec::Encoding::identity}) {
    for (const bool backwards : {false, true}) {
      const TestLayer made = make_test_layer(sample_tar(backwards ? 1 : 2), {.encoding = encoding});
      const size_t count = made.index->spans.size();
      ASSERT_GE(count, 10u);
      const auto layer = create(made);
      EXPECT_EQ(layer->data_size(), file_size(layer->data_path()));
      for (size_t i = 0; i < count; ++i) {
        const size_t span = backwards ? count - 1 - i : i;
        ASSERT_TRUE(layer->write_span(span, made.span(span)).ok());
        EXPECT_TRUE(layer->presence().test(span));
        EXPECT_EQ(layer->presence().count(), i + 1);
      }
      for (size_t i = 0; i < count; ++i) {
        const ByteView expected = made.span(i);
        Bytes found(expected.size(), 0xee);
        ASSERT_TRUE(layer->read_span(i, found).ok());
        EXPECT_TRUE(std::equal(found.begin(), found.end(), expected.begin(), expected.end())) << i;
      }
      EXPECT_EQ(read_data(*layer), made.data());
      EXPECT_EQ(layer->data_size(), file_size(layer->data_path()));
    }
  }
}

TEST_F(LayerTest, ClaimsExactlyTheDataOfItsSpans) {
  const TestLayer made = make_test_layer(sample_tar());
  const auto layer = create(made);
  const Bytes expected = made.data();
  const size_t count = made.index->spans.size();
  EXPECT_FALSE(layer->has_data(0, 1));
  for (size_t i = 1; i < count; i += 2) must(layer->write_span(i, made.span(i)));
  size_t there = 0;
  for (uint64_t at = 0; at < layer->data_size(); at += 4096) {
    const auto [first, last] = layer->spans_of(at, 4096);
    bool all = true;
    for (size_t span = first; span < last; ++span) all = all && span % 2 == 1;
    EXPECT_EQ(layer->has_data(at, 4096), all) << at;
    if (!all) continue;
    ++there;
    Bytes block(4096, 0xee);
    ASSERT_TRUE(layer->read_data(at, block).ok());
    EXPECT_TRUE(
        std::equal(block.begin(), block.end(), expected.begin() + static_cast<ptrdiff_t>(at)))
        << at;
  }
  EXPECT_GT(there, 10u);
}

TEST_F(LayerTest, HolesAndPaddingAreThereWithoutAnySpan) {
  tar::TestArchive archive;
  archive.pax({{"GNU.sparse.name", "s"},
               {"GNU.sparse.size", "40000000"},
               {"GNU.sparse.numblocks", "1"},
               {"GNU.sparse.map", "4096,4"}});
  archive.file("GNUSparseFile.0/s", "abcd").end();
  const TestLayer made = make_test_layer(archive.bytes());
  const auto layer = create(made);
  // One block is stored; what of it is no file data is zero by the layout.
  EXPECT_EQ(layer->data_size(), 4096u);
  EXPECT_FALSE(layer->has_data(0, 4));
  EXPECT_TRUE(layer->has_data(4, 4092));
  EXPECT_TRUE(layer->has_data(0, 0));
  EXPECT_TRUE(layer->has_data(1 << 20, 4096)) << "behind the end";
}

TEST_F(LayerTest, LayersWithoutDataAndWithoutSpans) {
  const TestLayer empty = make_test_layer("");
  ASSERT_TRUE(empty.index->spans.empty());
  auto layer = create(empty);
  EXPECT_EQ(layer->data_size(), 0u);
  EXPECT_TRUE(layer->presence().full());
  EXPECT_TRUE(layer->mark_complete().ok());
  const std::string id = layer->id();
  layer.reset();
  EXPECT_TRUE(must(store_->find(id))->complete());

  tar::TestArchive names;
  names.directory("a/").file("a/empty", "").end();
  const TestLayer headers = make_test_layer(names.bytes());
  ASSERT_EQ(headers.index->spans.size(), 1u);
  const auto other = create(headers);
  EXPECT_EQ(other->data_size(), 0u);
  must(other->write_span(0, headers.span(0)));
  Bytes again(headers.tar.size());
  ASSERT_TRUE(other->read_span(0, again).ok());
  EXPECT_EQ(again, headers.tar);
  EXPECT_TRUE(other->mark_complete().ok());
}

TEST_F(LayerTest, CompleteEmptiesTheRestAndStays) {
  const TestLayer made = make_test_layer(sample_tar());
  auto layer = create(made);
  EXPECT_EQ(layer->mark_complete().error().code, Code::failed_precondition);
  write_all(*layer, made);
  EXPECT_GT(file_size(folder(*layer) / "rest"), 0u);
  ASSERT_TRUE(layer->mark_complete().ok());
  EXPECT_TRUE(layer->complete());
  EXPECT_EQ(file_size(folder(*layer) / "rest"), 0u);
  EXPECT_TRUE(layer->mark_complete().ok()) << "twice is once";
  EXPECT_TRUE(layer->has_data(0, layer->data_size()));

  const std::string id = layer->id();
  layer.reset();
  store_.reset();
  store_ = must(LayerStore::open(dir_.path()));
  layer = must(store_->find(id));
  EXPECT_TRUE(layer->complete());
  EXPECT_EQ(read_data(*layer), made.data());
}

TEST_F(LayerTest, QuarantineStays) {
  const TestLayer made = make_test_layer(sample_tar());
  auto layer = create(made);
  EXPECT_TRUE(layer->quarantine("its index \"lied\"\n").ok());
  EXPECT_TRUE(layer->quarantined());
  const std::string id = layer->id();
  layer.reset();
  layer = must(store_->find(id));
  EXPECT_TRUE(layer->quarantined());
  EXPECT_EQ(layer->quarantine_reason(), "its index \"lied\"\n");
  EXPECT_FALSE(layer->complete());
  EXPECT_EQ(must(store_->create(made.head)), layer) << "asking anew does not clear it";
}

TEST_F(LayerTest, ScrubDropsWhatChangedAndKeepsTheRest) {
  const TestLayer made = make_test_layer(sample_tar());
  const auto layer = create(made);
  write_all(*layer, made);
  EXPECT_EQ(must(layer->scrub()), 0u);
  const uint64_t at = made.index->layout.extents().front().data_offset + 70'000;
  const size_t span = layer->spans_of(at, 1).first;
  must(pwrite_full(layer->data_fd(), as_bytes("?"), at));
  EXPECT_EQ(must(layer->scrub()), 1u);
  EXPECT_FALSE(layer->presence().test(span));
  EXPECT_EQ(layer->presence().count(), made.index->spans.size() - 1);
  must(layer->write_span(span, made.span(span)));
  EXPECT_EQ(read_data(*layer), made.data());
}

TEST_F(LayerTest, ScrubOfACompleteLayerStartsItOver) {
  const TestLayer made = make_test_layer(sample_tar());
  auto layer = create(made);
  write_all(*layer, made);
  must(layer->mark_complete());
  must(pwrite_full(layer->data_fd(), as_bytes("?"), 5));
  EXPECT_GT(must(layer->scrub()), 0u);
  EXPECT_FALSE(layer->complete());
  EXPECT_EQ(layer->presence().count(), 0u) << "the proof needs all of the tar again";
  write_all(*layer, made);
  must(layer->mark_complete());
  EXPECT_EQ(read_data(*layer), made.data());
}

TEST_F(LayerTest, UnsyncedBytesAreThoseSinceTheLastSync) {
  const TestLayer made = make_test_layer(sample_tar());
  const auto layer = create(made);
  EXPECT_EQ(layer->unsynced_bytes(), 0u);
  must(layer->write_span(0, made.span(0)));
  must(layer->write_span(0, made.span(0)));
  EXPECT_EQ(layer->unsynced_bytes(), made.span(0).size());
  must(layer->sync());
  EXPECT_EQ(layer->unsynced_bytes(), 0u);
}

// A layer on descriptors of the test's choice.
std::unique_ptr<Layer> layer_on(const TestLayer& made, const std::filesystem::path& dir,
                                const char* rest, size_t claimed = 0) {
  Layer::Files files;
  files.dir = dir;
  files.data = must(open_file(dir / "data", O_RDWR | O_CREAT, 0600));
  files.sums = must(open_file(dir / "sums", O_RDWR | O_CREAT, 0600));
  files.rest = must(open_file(rest, O_RDWR));
  auto presence = std::make_unique<Presence>(made.index->spans.size());
  for (size_t span = 0; span < claimed; ++span) presence->set(span);
  return std::make_unique<Layer>(LayerStore::id_of(made.head), made.index, std::move(files),
                                 LayerState{}, std::move(presence));
}

// After a failed fdatasync the kernel may forget what it could not write, and
// answer the next one with success. (/dev/null takes writes and cannot sync.)
TEST_F(LayerTest, WhatCouldNotBeMadeDurableIsNotClaimed) {
  const TestLayer made = make_test_layer(sample_tar());
  const auto layer = layer_on(made, dir_.path(), "/dev/null");
  must(layer->write_span(0, made.span(0)));
  must(layer->write_span(3, made.span(3)));
  EXPECT_FALSE(layer->sync().ok());
  EXPECT_EQ(layer->presence().count(), 0u);
  EXPECT_FALSE(std::filesystem::exists(dir_.path() / "present"));
}

TEST_F(LayerTest, AClaimThatWasTakenBackIsNotDurableAnyMore) {
  const TestLayer made = make_test_layer(sample_tar());
  const auto layer = layer_on(made, dir_.path(), "/dev/null", 3);
  layer->drop_span(1);
  must(layer->write_span(1, made.span(1)));
  EXPECT_FALSE(layer->sync().ok());
  EXPECT_FALSE(layer->presence().test(1)) << "its new bytes may be lost";
  EXPECT_EQ(layer->presence().count(), 2u) << "of the sync before";
}

TEST_F(LayerTest, AFailedWriteClaimsNothing) {
  const TestLayer made = make_test_layer(sample_tar());
  const auto layer = layer_on(made, dir_.path(), "/dev/full");
  const Status written = layer->write_span(0, made.span(0));
  ASSERT_FALSE(written.ok());
  EXPECT_EQ(written.error().code, Code::exhausted);
  EXPECT_EQ(layer->presence().count(), 0u);
  EXPECT_EQ(layer->unsynced_bytes(), 0u);
}

}  // namespace
}  // namespace pagein::store
