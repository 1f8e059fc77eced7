#include "mount/overlay.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <numeric>

#include "base/file.h"
#include "mount/fs_context.h"
#include "mount/mount_table.h"

namespace pagein::mount {
namespace {

using ::testing::ElementsAre;

OverlaySpec active(std::vector<std::filesystem::path> lowers) {
  OverlaySpec spec;
  spec.lowers = std::move(lowers);
  spec.upper = "/s/9/fs";
  spec.work = "/s/9/work";
  spec.features = {true, false};
  return spec;
}

TEST(SnapshotMounts, AreWhatContainerdsOverlaySnapshotterAnswers) {
  auto mounts = snapshot_mounts(active({"/s/2/fs", "/s/1/fs"})).value();
  ASSERT_EQ(mounts.size(), 1u);
  EXPECT_EQ(mounts[0].type, "overlay");
  EXPECT_EQ(mounts[0].source, "overlay");
  EXPECT_THAT(mounts[0].options, ElementsAre("index=off", "workdir=/s/9/work", "upperdir=/s/9/fs",
                                             "lowerdir=/s/2/fs:/s/1/fs"));

  OverlaySpec first = active({});
  first.work.clear();
  mounts = snapshot_mounts(first).value();
  EXPECT_EQ(mounts[0].type, "bind");
  EXPECT_EQ(mounts[0].source, "/s/9/fs");
  EXPECT_THAT(mounts[0].options, ElementsAre("rw", "rbind"));

  OverlaySpec view;
  view.lowers = {"/m"};
  mounts = snapshot_mounts(view).value();
  EXPECT_EQ(mounts[0].type, "bind");
  EXPECT_EQ(mounts[0].source, "/m");
  EXPECT_THAT(mounts[0].options, ElementsAre("ro", "rbind"));

  view.lowers = {"/m", "/n"};
  view.features = {true, true};
  mounts = snapshot_mounts(view).value();
  EXPECT_THAT(mounts[0].options, ElementsAre("index=off", "userxattr", "lowerdir=/m:/n"));
}

TEST(SnapshotMounts, RefusesHalfASnapshot) {
  EXPECT_FALSE(snapshot_mounts({}).ok());
  OverlaySpec spec = active({"/m"});
  spec.work.clear();
  EXPECT_FALSE(snapshot_mounts(spec).ok());
  spec = active(std::vector<std::filesystem::path>(kMaxLowers + 1, "/m"));
  EXPECT_FALSE(snapshot_mounts(spec).ok());
}

TEST(Overlay, EscapesPaths) {
  EXPECT_EQ(escape_overlay_path("/plain/path"), "/plain/path");
  EXPECT_EQ(escape_overlay_path("/a:b,c\\d"), "/a\\:b\\,c\\\\d");
}

class OverlayMounts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
    features_ = detect_overlay_features();
    ASSERT_TRUE(make_dirs(target()).ok());
  }
  void TearDown() override { (void)unmount(target(), UnmountMode::lazy); }

  std::filesystem::path target() const { return dir_.path() / "root"; }
  // A lower with one file named after it.
  std::filesystem::path lower(const std::string& name) {
    const auto path = dir_.path() / name;
    EXPECT_TRUE(make_dirs(path).ok());
    std::ofstream(path / ("in-" + name)) << name;
    std::ofstream(path / "common") << name;
    return path;
  }
  OverlaySpec spec(std::vector<std::filesystem::path> lowers) {
    OverlaySpec out;
    out.lowers = std::move(lowers);
    out.upper = dir_.path() / "upper";
    out.work = dir_.path() / "work";
    out.features = features_;
    EXPECT_TRUE(make_dirs(out.upper).ok());
    EXPECT_TRUE(make_dirs(out.work).ok());
    return out;
  }
  std::string content(const std::filesystem::path& path) {
    return read_file(target() / path).value_or("?");
  }

  TempDir dir_ = TempDir::make("pagein-overlay-", "/var/tmp").value();
  OverlayFeatures features_;
};

TEST_F(OverlayMounts, TopmostLowerIsFirst) {
  const Status status = mount_overlay(spec({lower("b"), lower("a")}), target());
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(content("common"), "b");
  EXPECT_EQ(content("in-a"), "a");
  EXPECT_TRUE(replace_file(target() / "new", as_bytes("x")).ok());
}

TEST_F(OverlayMounts, OddNamesWorkBothWays) {
  const std::string odd = "we:ird, \\name";
  OverlaySpec overlay = spec({lower(odd), lower("a")});
  overlay.upper = dir_.path() / "up,per:x";
  ASSERT_TRUE(make_dirs(overlay.upper).ok());
  Status status = mount_overlay(overlay, target());
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(content("common"), odd);
  ASSERT_TRUE(unmount(target(), UnmountMode::normal).ok());

  // As containerd would: options joined for mount(2).
  const Mount m = snapshot_mounts(overlay).value()[0];
  const std::string data =
      std::accumulate(std::next(m.options.begin()), m.options.end(), m.options[0],
                      [](std::string a, const std::string& b) { return a + "," + b; });
  ASSERT_EQ(::mount("overlay", target().c_str(), "overlay", 0, data.c_str()), 0) << errno;
  EXPECT_EQ(content("common"), odd);
}

TEST_F(OverlayMounts, ManyLowersWithLongPaths) {
  std::vector<std::filesystem::path> lowers;
  for (int i = 0; i < 100; ++i) lowers.push_back(lower(std::string(200, 'x') + std::to_string(i)));
  OverlaySpec overlay = spec(lowers);
  for (auto* path : {&overlay.upper, &overlay.work}) {
    *path =
        dir_.path() / std::string(150, 'y') / std::string(150, path == &overlay.upper ? 'u' : 'w');
    ASSERT_TRUE(make_dirs(*path).ok());
  }
  const Status status = mount_overlay(overlay, target());
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(content("common"), std::string(200, 'x') + "0");
  EXPECT_EQ(content("in-" + std::string(200, 'x') + "99"), std::string(200, 'x') + "99");
}

TEST_F(OverlayMounts, OneDirectoryIsABindMount) {
  OverlaySpec view;
  view.lowers = {lower("a")};
  ASSERT_TRUE(mount_overlay(view, target()).ok());
  EXPECT_EQ(content("common"), "a");
  EXPECT_FALSE(replace_file(target() / "new", as_bytes("x")).ok());
  ASSERT_TRUE(unmount(target(), UnmountMode::normal).ok());

  OverlaySpec first = spec({});
  ASSERT_TRUE(mount_overlay(first, target()).ok());
  EXPECT_TRUE(replace_file(target() / "new", as_bytes("x")).ok());
  EXPECT_TRUE(std::filesystem::exists(first.upper / "new"));
}

TEST_F(OverlayMounts, RefusesWhatIsNotThere) {
  const Status status = mount_overlay(spec({dir_.path() / "absent", lower("a")}), target());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::not_found) << status.error().message;
}

TEST_F(OverlayMounts, ARefusalCarriesTheKernelsWords) {
  FsContext context = FsContext::open("overlay").value();
  const Status status = context.set_flag("nonsense");
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message.find("Unknown parameter"), std::string::npos)
      << status.error().message;
  EXPECT_EQ(FsContext::open("nosuchfs").error().code, Code::unsupported);
}

}  // namespace
}  // namespace pagein::mount
