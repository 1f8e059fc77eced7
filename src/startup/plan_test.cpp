#include <gtest/gtest.h>

#include "startup/image_files.h"
#include "startup/pack_format.h"
#include "startup/piece_planner.h"
#include "startup/prefetch_list.h"
#include "tree/layer_maker.h"
#include "tree/merge.h"

namespace pagein::startup {
namespace {

TEST(PrefetchList, Lines) {
  const auto paths = parse_prefetch_list("/a\r\n\n  \t\n/b c/\n/\n//d//").value();
  EXPECT_EQ(paths,
            (std::vector<ListedPath>{{"/a", false}, {"/b c", true}, {"/", true}, {"//d", true}}));
  EXPECT_TRUE(parse_prefetch_list("").value().empty());
  EXPECT_NE(parse_prefetch_list("/a\n\nb").error().message.find("line 3"), std::string::npos);
}

TEST(ImageFiles, FollowsLinksAsAProcessWould) {
  tree::LayerMaker maker;
  maker.dir("usr").dir("usr/lib").file("usr/lib/x", 1).symlink("lib", "usr/lib");
  maker.symlink("abs", "/lib/x").symlink("up", "../../../lib/x").symlink("loop", "loop/x");
  maker.hardlink("hard", "usr/lib/x");
  const tree::Tree tree = tree::merge({maker.finish()}).value();
  const ImageFiles files(tree);
  for (const char* path : {"/lib/x", "/usr/lib/x", "/abs", "/up", "lib/../lib/./x"}) {
    const auto node = files.resolve_file(path);
    ASSERT_TRUE(node.has_value()) << path;
    EXPECT_EQ(files.path(*node), "/usr/lib/x") << path;
  }
  EXPECT_EQ(tree.inode(files.resolve_file("/hard").value()),
            tree.inode(files.resolve_file("/abs").value()));
  EXPECT_EQ(files.path(files.resolve_file("x", "/lib").value()), "/usr/lib/x");
  for (const char* path : {"/loop", "/none", "/lib/x/y", "/lib/x/.", "/lib/x/", "/lib", ""}) {
    EXPECT_FALSE(files.resolve_file(path).has_value()) << path;
  }
  EXPECT_EQ(files.files_below(files.resolve("/").value()).size(), 2u);
}

// A layer of spans of equal length.
std::shared_ptr<const index::LayerIndex> layer(size_t spans, uint64_t span, char name) {
  auto index = std::make_shared<index::LayerIndex>();
  index->diff_id = oci::Digest::of(as_bytes(std::string(1, name)));
  index->tar_size = spans * span;
  for (size_t i = 0; i < spans; ++i) index->spans.push_back({.uncompressed_begin = i * span});
  return index;
}

std::vector<std::array<uint64_t, 4>> summary(const PiecePlanner& planner) {
  std::vector<std::array<uint64_t, 4>> out;
  for (const PlannedPiece& piece : planner.pieces()) {
    out.push_back({piece.layer, piece.first_span, piece.span_count, piece.scattered ? 1U : 0U});
  }
  return out;
}

TEST(PiecePlanner, RunsInTheOrderOfTheFirstRead) {
  PiecePlanner planner({layer(10, 1000, 'a'), layer(10, 1000, 'b')});
  planner.add_tar(1, 5500, 5501);
  planner.add_tar(0, 999, 1001);   // spans 0 and 1
  planner.add_tar(1, 4000, 5000);  // beside the first one
  planner.add_tar(0, 9999, 50000);
  planner.add_tar(0, 50000, 60000);
  planner.add_tar(0, 5, 5);
  planner.add_tar(7, 0, 1);
  using Pieces = std::vector<std::array<uint64_t, 4>>;
  EXPECT_EQ(summary(planner), (Pieces{{1, 4, 2, 1}, {0, 0, 2, 1}, {0, 9, 1, 1}}));
}

TEST(PiecePlanner, LongRunsAreCutAndNotStored) {
  constexpr uint64_t kSpan = kLongRun / 4;
  PiecePlanner planner({layer(20, kSpan, 'a')});
  planner.add_tar(0, 9 * kSpan, 10 * kSpan);  // late in the run, but read first
  planner.add_tar(0, 2 * kSpan, 12 * kSpan);
  planner.add_tar(0, 15 * kSpan, 18 * kSpan);
  using Pieces = std::vector<std::array<uint64_t, 4>>;
  EXPECT_EQ(summary(planner), (Pieces{{0, 6, 4, 0}, {0, 2, 4, 0}, {0, 10, 2, 0}, {0, 15, 3, 1}}));
}

TEST(PiecePlanner, LayersWithOneDiffIdAreOne) {
  PiecePlanner planner({layer(4, 1000, 'a'), layer(4, 1000, 'a')});
  planner.add_tar(1, 0, 1);
  planner.add_tar(0, 0, 1);
  using Pieces = std::vector<std::array<uint64_t, 4>>;
  EXPECT_EQ(summary(planner), (Pieces{{0, 0, 1, 1}}));
}

TEST(PiecePlanner, FilesByTheirContent) {
  tree::LayerMaker maker;
  maker.file("a", 1000).file("b", 5000).file("empty", 0);
  maker.sparse("c", 100'000, {{0, 100}, {50'000, 100}});
  const tree::Layer tables = maker.finish();
  auto index = std::make_shared<index::LayerIndex>(*layer(40, 512, 'a'));
  index->files = *tables.files;
  index->layout = *tables.layout;
  const std::shared_ptr<const index::LayerIndex> shared = index;
  const tree::Tree tree =
      tree::merge({{{shared, &shared->files}, {shared, &shared->layout}}}).value();
  const auto inode = [&](const char* name) { return tree.inode(tree.lookup_path(name).value()); };
  using Pieces = std::vector<std::array<uint64_t, 4>>;
  {
    PiecePlanner planner({shared});
    planner.add_file(tree, inode("b"), 4600, 9999);  // b's content begins at 2048
    planner.add_file(tree, inode("empty"));
    EXPECT_EQ(summary(planner), (Pieces{{0, 12, 2, 1}}));
  }
  PiecePlanner planner({shared});
  planner.add_file(tree, inode("a"));
  EXPECT_EQ(summary(planner), (Pieces{{0, 1, 2, 1}}));
  planner.add_file(tree, inode("c"));
  EXPECT_EQ(summary(planner).size(), 2u);
}

}  // namespace
}  // namespace pagein::startup
