// Files and packs read from layers where they lie.
#include <gtest/gtest.h>

#include "convert/image_reader.h"
#include "convert/pack_maker.h"
#include "index/test_layer.h"
#include "registry/file_blob_source.h"
#include "startup/pack_decoder.h"
#include "startup/pack_head.h"
#include "tree/merge.h"

namespace pagein::convert {
namespace {

using index::testing::must;

// One layer in a folder as a layout has it.
class PackTest : public ::testing::Test {
 protected:
  void SetUp() override {
    tar::TestArchive archive;
    archive.file("text", text_).file("empty", "");
    archive.pax({{"GNU.sparse.name", "sparse"},
                 {"GNU.sparse.size", "100000"},
                 {"GNU.sparse.numblocks", "3"},
                 {"GNU.sparse.map", "10,5000,20000,3000,99990,10"}});
    archive.file("GNUSparseFile.0/sparse", text_.substr(0, 8010));
    archive.file("last", "the end").end();
    layer_ = index::testing::make_test_layer(archive.bytes());
    ASSERT_TRUE(make_dirs(dir_.path() / "blobs/sha256").ok());
    write(layer_.blob);
    write(layer_.index_blob);
    const auto blobs = registry::make_layout_blob_source(dir_.path());
    access_ = {{layer_.index,
                blobs,
                blobs,
                {layer_.index_digest(), layer_.index_blob.size(), layer_.head.size(),
                 oci::Digest::of(layer_.head)}}};
  }
  void write(const Bytes& blob) {
    must(replace_file(dir_.path() / "blobs/sha256" / oci::Digest::of(blob).hex(), blob));
  }
  std::vector<startup::PlannedPiece> plan(const std::vector<size_t>& spans) {
    startup::PiecePlanner planner({layer_.index});
    for (const size_t i : spans) {
      const uint64_t begin = layer_.index->spans[i].uncompressed_begin;
      planner.add_tar(0, begin, begin + 1);
    }
    return planner.pieces();
  }

  const std::string text_ = index::testing::test_text(700'000, 1);
  TempDir dir_ = must(TempDir::make("pack_test"));
  index::testing::TestLayer layer_;
  std::vector<LayerAccess> access_;
};

TEST_F(PackTest, FilesAreReadByTheIndex) {
  const tree::Tree tree = must(
      tree::merge({{{layer_.index, &layer_.index->files}, {layer_.index, &layer_.index->layout}}}));
  ImageReader reader(tree, access_);
  const auto read = [&](const char* name, uint64_t offset, uint64_t length) {
    const auto file = reader.open(tree.lookup_path(name).value());
    return std::string(as_text(must(file->read(offset, length))));
  };
  EXPECT_EQ(read("text", 0, 1 << 20), text_);
  EXPECT_EQ(read("text", 300'000, 5), text_.substr(300'000, 5));
  EXPECT_EQ(read("text", 700'000, 5), "");
  EXPECT_EQ(read("empty", 0, 5), "");
  EXPECT_EQ(read("last", 4, 100), "end");
  std::string sparse(100'000, '\0');
  sparse.replace(10, 5000, text_.substr(0, 5000));
  sparse.replace(20'000, 3000, text_.substr(5000, 3000));
  sparse.replace(99'990, 10, text_.substr(8000, 10));
  EXPECT_EQ(read("sparse", 0, 200'000), sparse);
  EXPECT_EQ(read("sparse", 4990, 15'100), sparse.substr(4990, 15'100));
}

TEST_F(PackTest, StoresThePiecesOfThePlan) {
  ASSERT_GE(layer_.index->spans.size(), 5U);
  const auto pieces = plan({4, 0, 1});
  const MadePack made = must(make_pack(access_, pieces, {}));
  const startup::PackHead head = must(startup::parse_pack_head(made.head));
  ASSERT_EQ(head.pieces.size(), 2U);
  EXPECT_EQ(head.blob_size(), made.head.size() + made.frames.size());
  EXPECT_EQ(made.report.stored_pieces, 2U);
  startup::PieceDecoder decoder;
  const uint64_t sizes[] = {layer_.span(0).size(), layer_.span(1).size()};
  const auto spans =
      must(decoder.decode(ByteView(made.frames).subspan(head.pieces[0].stored_size), sizes));
  EXPECT_TRUE(std::ranges::equal(spans[1], layer_.span(1)));
}

TEST_F(PackTest, KeepsToTheLimit) {
  const auto pieces = plan({4, 0, 2});
  const MadePack all = must(make_pack(access_, pieces, {}));
  const MadePack less = must(make_pack(access_, pieces, {.stored_bytes = all.frames.size() - 1}));
  EXPECT_LT(less.frames.size(), all.frames.size());
  EXPECT_EQ(less.report.pieces, 3U);
  EXPECT_EQ(less.report.stored_pieces, 2U);
  const MadePack none = must(make_pack(access_, pieces, {.stored_bytes = 0}));
  EXPECT_TRUE(none.frames.empty());
}

TEST_F(PackTest, DamagedLayersAreNoticed) {
  const auto path = dir_.path() / "blobs/sha256" / oci::Digest::of(layer_.blob).hex();
  Bytes damaged = layer_.blob;
  for (size_t i = 0; i < damaged.size(); i += 100) damaged[i] ^= 1;
  must(replace_file(path, damaged));
  EXPECT_EQ(make_pack(access_, plan({1}), {}).error().code, Code::corrupt_input);
  std::atomic<bool> stop = true;
  EXPECT_EQ(make_pack(access_, plan({1}), {.stop = &stop}).error().code, Code::cancelled);
}

}  // namespace
}  // namespace pagein::convert
