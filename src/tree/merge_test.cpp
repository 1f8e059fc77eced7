#include "tree/merge.h"

#include <gmock/gmock.h>

#include <map>

#include "tree/dump.h"
#include "tree/layer_maker.h"

namespace pagein::tree {
namespace {

using index::FileType;
using testing::ElementsAre;
using testing::HasSubstr;

// Paths in order, directories with '/', symlinks with "->", opaque with '!', whiteouts '~'.
std::vector<std::string> names(const Tree& tree) {
  std::vector<std::string> out;
  for (NodeId node = 1; node < tree.node_count(); ++node) {
    const InodeId inode = tree.inode(node);
    std::string line = tree.path(node);
    if (tree.type(inode) == FileType::directory) line += '/';
    if (tree.type(inode) == FileType::whiteout) line = "~" + line;
    for (const auto& xattr : tree.xattrs(inode)) {
      if (xattr.name == "trusted.overlay.opaque") line += '!';
    }
    if (tree.type(inode) == FileType::symlink) {
      line += "->" + std::string(tree.symlink_target(inode));
    }
    out.push_back(line);
  }
  return out;
}

Tree merged(std::vector<LayerMaker> layers, const MergeOptions& options = {}) {
  std::vector<Layer> list;
  for (LayerMaker& layer : layers) list.push_back(layer.finish());
  auto tree = merge(std::move(list), options);
  if (!tree.ok()) ADD_FAILURE() << tree.error().message;
  if (!tree.ok()) std::abort();
  return *std::move(tree);
}

Error failure(std::vector<LayerMaker> layers, const MergeOptions& options = {}) {
  std::vector<Layer> list;
  for (LayerMaker& layer : layers) list.push_back(layer.finish());
  auto tree = merge(std::move(list), options);
  EXPECT_FALSE(tree.ok());
  return tree.ok() ? Error(Code::internal, "none") : tree.error();
}

LayerMaker layer() { return LayerMaker(); }

Attributes at(const Tree& tree, std::string_view path) {
  const auto node = tree.lookup_path(path);
  EXPECT_TRUE(node.has_value()) << path;
  return node ? tree.attributes(tree.inode(*node)) : Attributes{};
}

std::map<std::string, std::string> xattrs_at(const Tree& tree, std::string_view path) {
  std::map<std::string, std::string> out;
  const auto node = tree.lookup_path(path);
  EXPECT_TRUE(node.has_value()) << path;
  if (!node) return out;
  for (const auto& x : tree.xattrs(tree.inode(*node))) out.emplace(x.name, x.value);
  return out;
}

TEST(Merge, SortsByBytesAndLooksUp) {
  const Tree tree = merged({layer()
                                .file("b")
                                .file("\xc3\xa4")
                                .file("B")
                                .file("b-")
                                .file("ab")
                                .file(std::string(20, 'x'))
                                .file(std::string(20, 'x') + "a")
                                .dir("d")
                                .file("d/2")
                                .file("d/1")});
  EXPECT_THAT(names(tree), ElementsAre("B", "ab", "b", "b-", "d/", std::string(20, 'x'),
                                       std::string(20, 'x') + "a", "\xc3\xa4", "d/1", "d/2"));
  EXPECT_EQ(tree.path(*tree.lookup_path("d/2")), "d/2");
  EXPECT_EQ(tree.lookup_path("d/3"), std::nullopt);
  EXPECT_EQ(tree.lookup_path("b/x"), std::nullopt);
  EXPECT_EQ(tree.lookup(kRootInode, "a"), std::nullopt);
  EXPECT_EQ(tree.lookup_path(""), kRootNode);
}

TEST(Merge, WhiteoutsHideLowerLayersOnly) {
  const Tree tree =
      merged({layer().file("a").file("b").file("c/d").file("e"),
              layer().whiteout("a").file("b").whiteout("b").whiteout("c").whiteout("x"),
              layer().file("a", 7)});
  EXPECT_THAT(names(tree), ElementsAre("a", "b", "e"));
  EXPECT_EQ(at(tree, "a").size, 7u);
}

TEST(Merge, OpaqueHidesLowerContentAndKeepsItsOwnLayers) {
  const Tree tree =
      merged({layer().file("d/low").file("d/sub/low").file("e/low"),
              layer().file("d/before").opaque("d").file("d/after").file("d/sub/own")});
  EXPECT_THAT(names(tree),
              ElementsAre("d/", "e/", "d/after", "d/before", "d/sub/", "e/low", "d/sub/own"));
}

// Overlayfs merges the layers' roots whatever their marks.
TEST(Merge, AnOpaqueRootHidesNothing) {
  EXPECT_THAT(names(merged({layer().file("a"), layer().file(".wh..wh..opq").file("b")})),
              ElementsAre("a", "b"));
}

TEST(Merge, AFileReplacesADirectoryAndBack) {
  const Tree file = merged({layer().file("d/f"), layer().file("d", 3)});
  EXPECT_THAT(names(file), ElementsAre("d"));
  const Tree back = merged({layer().file("d/f"), layer().file("d"), layer().file("d/g")});
  EXPECT_THAT(names(back), ElementsAre("d/", "d/g"));
  const Tree within = merged({layer().file("d/f").file("d").file("e").dir("e").file("e/g")});
  EXPECT_THAT(names(within), ElementsAre("d", "e/", "e/g"));
}

// containerd makes the directory over the whiteout's device, and overlayfs then
// merges it with what lies below.
TEST(Merge, ADirectoryAfterItsWhiteoutShowsLowerContent) {
  const Tree tree = merged({layer().file("d/low"), layer().whiteout("d").dir("d").file("d/own")});
  EXPECT_THAT(names(tree), ElementsAre("d/", "d/low", "d/own"));
}

TEST(Merge, ADirectoryEntryUpdatesAttributesAndKeepsChildren) {
  const Tree tree =
      merged({layer().with({.mode = 0700, .uid = 1}).xattrs({{"user.a", "1"}}).dir("d").file("d/f"),
              layer().with({.mode = 01777, .gid = 2, .mtime_sec = 9}).dir("d")});
  EXPECT_THAT(names(tree), ElementsAre("d/", "d/f"));
  EXPECT_EQ(at(tree, "d").mode, 01777);
  EXPECT_EQ(at(tree, "d").uid, 0u);
  EXPECT_EQ(at(tree, "d").gid, 2u);
  EXPECT_EQ(at(tree, "d").mtime_sec, 9);
  EXPECT_TRUE(xattrs_at(tree, "d").empty());  // overlayfs shows the upper one's only
}

TEST(Merge, ParentsWithoutEntriesTakeLowerAttributes) {
  const Tree tree =
      merged({layer().with({.mode = 0711, .uid = 5}).xattrs({{"user.a", "1"}}).dir("a").file("a/x"),
              layer().file("other"), layer().file("a/b/c")});
  EXPECT_EQ(at(tree, "a").mode, 0711);
  EXPECT_EQ(at(tree, "a").uid, 5u);
  EXPECT_EQ(xattrs_at(tree, "a").at("user.a"), "1");
  EXPECT_EQ(at(tree, "a/b").mode, 0755);
  EXPECT_EQ(at(tree, "a/b").mtime_sec, 0);
  EXPECT_THAT(names(tree), ElementsAre("a/", "other", "a/b/", "a/x", "a/b/c"));
}

TEST(Merge, PathsLeadThroughTheirOwnLayersSymlinks) {
  const Tree tree = merged({layer()
                                .dir("usr/lib")
                                .symlink("lib", "usr/lib")
                                .file("lib/x")
                                .symlink("abs", "/usr/lib")
                                .file("abs/y")
                                .symlink("up", "../../usr")
                                .file("up/share/z")
                                .symlink("new", "made/here")
                                .file("new/w")
                                .symlink("over", "gone/../usr")
                                .file("over/v")});
  EXPECT_THAT(names(tree), ElementsAre("abs->/usr/lib", "lib->usr/lib", "made/", "new->made/here",
                                       "over->gone/../usr", "up->../../usr", "usr/", "made/here/",
                                       "usr/lib/", "usr/share/", "usr/v", "made/here/w",
                                       "usr/lib/x", "usr/lib/y", "usr/share/z"));
}

// containerd looks into the layer's own folder only: a symlink of a lower layer
// does not lead anywhere, the new directory hides it.
TEST(Merge, PathsDoNotLeadThroughLowerSymlinks) {
  const Tree tree = merged(
      {layer().with({.mode = 0700}).dir("usr/lib").file("usr/lib/x").symlink("lib", "usr/lib"),
       layer().file("lib/y")});
  EXPECT_THAT(names(tree), ElementsAre("lib/", "usr/", "lib/y", "usr/lib/", "usr/lib/x"));
  EXPECT_EQ(at(tree, "lib").mode, 0700);  // but its attributes come from there
}

TEST(Merge, RefusesPathsThatLeadNowhere) {
  Error loop = failure({layer().symlink("a", "b").symlink("b", "a").file("a/x")});
  EXPECT_EQ(loop.code, Code::corrupt_input);
  EXPECT_THAT(loop.message, HasSubstr("layer 0, entry 'a/x': "));
  EXPECT_EQ(failure({layer().file("f").file("f/x")}).code, Code::corrupt_input);
  EXPECT_EQ(failure({layer().symlink("l", std::string(300, 'n')).file("l/x")}).code,
            Code::corrupt_input);
}

TEST(Merge, HardLinksShareAnInode) {
  const Tree tree = merged({layer()
                                .with({.mode = 0644, .uid = 1})
                                .xattrs({{"user.a", "1"}})
                                .file("f", 5)
                                .with({.mode = 0600, .uid = 2})
                                .xattrs({{"user.b", "2"}})
                                .hardlink("g", "f")
                                .symlink("s", "f")
                                .hardlink("t", "s")});
  EXPECT_EQ(*tree.lookup_path("f") + 1, *tree.lookup_path("g"));
  EXPECT_EQ(tree.inode(*tree.lookup_path("f")), tree.inode(*tree.lookup_path("g")));
  EXPECT_EQ(at(tree, "f").nlink, 2u);
  EXPECT_EQ(at(tree, "f").size, 5u);
  EXPECT_EQ(at(tree, "f").mode, 0600);  // unpacking sets the link's attributes
  EXPECT_EQ(at(tree, "f").uid, 2u);
  EXPECT_EQ(xattrs_at(tree, "f").size(), 2u);
  EXPECT_EQ(at(tree, "t").type, FileType::symlink);  // not followed
  EXPECT_EQ(at(tree, "t").nlink, 2u);
}

TEST(Merge, LinkCountsAreOfTheMergedTree) {
  const Tree tree = merged({layer().file("f").hardlink("g", "f").hardlink("h", "f").dir("d/e"),
                            layer().whiteout("g").file("h").dir("d/e2").whiteout("d/e")});
  EXPECT_EQ(at(tree, "f").nlink, 1u);
  EXPECT_EQ(at(tree, "d").nlink, 3u);
  EXPECT_EQ(at(tree, "").nlink, 3u);
}

TEST(Merge, HardLinksReachLowerLayers) {
  const Tree tree = merged(
      {layer().file("d/f", 5).symlink("s", "d"), layer().hardlink("g", "s/f").file("d/other")});
  EXPECT_EQ(tree.inode(*tree.lookup_path("g")), tree.inode(*tree.lookup_path("d/f")));
  EXPECT_EQ(at(tree, "g").nlink, 2u);
  EXPECT_EQ(failure({layer().hardlink("g", "f")}).code, Code::corrupt_input);
  EXPECT_EQ(failure({layer().dir("d").hardlink("g", "d")}).code, Code::corrupt_input);
  EXPECT_EQ(failure({layer().file("f").hardlink("f", "f")}).code, Code::corrupt_input);
  EXPECT_EQ(failure({layer().file("a/b").hardlink("a", "a/b")}).code, Code::corrupt_input);
  EXPECT_EQ(failure({layer().file("f"), layer().whiteout("f"), layer().hardlink("g", "f")}).code,
            Code::corrupt_input);
}

TEST(Merge, ADevice00IsAWhiteout) {
  const Tree tree =
      merged({layer().file("a").file("b"), layer()
                                               .device(LayerMaker::Type::char_device, "a", 0, 0)
                                               .device(LayerMaker::Type::block_device, "b", 0, 0)});
  EXPECT_THAT(names(tree), ElementsAre("b"));
}

TEST(Merge, DropsXattrsThatOverlayfsObeysOrLinuxHasNot) {
  const Tree tree = merged({layer()
                                .xattrs({{"trusted.overlay.opaque", "y"},
                                         {"trusted.other", "x"},
                                         {"user.overlay.opaque", "y"},
                                         {"user.kept", "1"},
                                         {"security.capability", "2"},
                                         {"system.posix_acl_default", "3"},
                                         {"com.apple.quarantine", "4"},
                                         {"system.nfs4_acl", "5"}})
                                .dir("d")});
  EXPECT_THAT(xattrs_at(tree, "d"), ElementsAre(testing::Pair("security.capability", "2"),
                                                testing::Pair("system.posix_acl_default", "3"),
                                                testing::Pair("user.kept", "1")));
}

TEST(Merge, TheRootIsAsContainerdMakesIt) {
  const Tree tree =
      merged({layer().with({.mode = 0500, .uid = 9, .mtime_sec = 77}).dir("."), layer().file("a")});
  EXPECT_EQ(at(tree, "").mode, 0755);
  EXPECT_EQ(at(tree, "").uid, 0u);
  EXPECT_EQ(at(tree, "").mtime_sec, 77);
}

TEST(Merge, OverOrdinaryLayersMarksStay) {
  MergeOptions options;
  std::vector<std::string> asked;
  options.lower_directory = [&](std::string_view path) -> Result<std::optional<LowerDirectory>> {
    asked.emplace_back(path);
    if (path != "etc") return std::nullopt;
    return LowerDirectory{{.mode = 0750, .uid = 3, .mtime_sec = 4},
                          {{"user.a", "b"}, {"trusted.overlay.opaque", "y"}}};
  };
  const Tree tree = merged(
      {layer()
           .whiteout("gone")
           .file("etc/x")
           .whiteout("etc/y")
           .dir("opq")
           .opaque("opq")
           .whiteout("opq/inside")
           .file("file")
           .whiteout("then-file")
           .whiteout("then-dir"),
       layer().file("new/x").dir("file").file("then-file").file("then-dir/x").whiteout("etc/x")},
      options);
  EXPECT_THAT(names(tree), ElementsAre("etc/", "file/!", "~gone", "new/", "opq/!", "then-dir/!",
                                       "then-file", "~etc/x", "~etc/y", "new/x", "then-dir/x"));
  EXPECT_EQ(at(tree, "etc").mode, 0750);
  EXPECT_EQ(at(tree, "etc").mtime_sec, 4);
  EXPECT_EQ(xattrs_at(tree, "etc"), (std::map<std::string, std::string>{{"user.a", "b"}}));
  EXPECT_EQ(at(tree, "new").mode, 0755);
  EXPECT_EQ(at(tree, "gone").nlink, 3u);  // whiteouts share an inode
  // Each directory once, and only what no layer of the run has.
  EXPECT_THAT(asked, ElementsAre("etc", "new"));
}

TEST(Merge, PassesErrorsOfTheLowerLayersOn) {
  MergeOptions options;
  options.lower_directory = [](std::string_view) -> Result<std::optional<LowerDirectory>> {
    return Error(Code::unavailable, "stat failed");
  };
  EXPECT_EQ(failure({layer().file("a/b")}, options).code, Code::unavailable);
}

TEST(Merge, BoundsPathsThatAreCostlyToResolve) {
  LayerMaker hostile;
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += "d/";
  for (int i = 0; i < 100; ++i) {
    hostile.symlink("s" + std::to_string(i),
                    i == 0 ? deep : deep + std::string("../") + "../s" + std::to_string(i - 1));
  }
  for (int i = 0; i < 100'000; ++i) {
    hostile.symlink("toggle", "x").file("s99/f" + std::to_string(i % 5));
  }
  EXPECT_FALSE(merge({hostile.finish()}).ok());
}

TEST(Merge, ManyLayersAndAnEmptyOne) {
  std::vector<LayerMaker> layers;
  for (int i = 0; i < 500; ++i)
    layers.push_back(layer().file("d/" + std::to_string(i)).file("last", i));
  layers.push_back(layer());
  const Tree tree = merged(std::move(layers));
  EXPECT_EQ(tree.node_count(), 503u);
  EXPECT_EQ(at(tree, "last").size, 499u);
  EXPECT_EQ(merge({}).error().code, Code::invalid_argument);
}

}  // namespace
}  // namespace pagein::tree
