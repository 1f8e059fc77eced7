#include "snapshotter/mounts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace pagein::snapshotter {
namespace {

using testing::ElementsAre;

TEST(Mounts, OneFolderIsABindMount) {
  const auto active = make_mounts({Kind::active, "/s/1/fs", "/s/1/work", {}}, {});
  ASSERT_EQ(active.size(), 1u);
  EXPECT_EQ(active[0], (Mount{"bind", "/s/1/fs", {"rw", "rbind"}}));
  const auto empty = make_mounts({Kind::view, "/s/1/fs", {}, {}}, {});
  EXPECT_EQ(empty[0], (Mount{"bind", "/s/1/fs", {"ro", "rbind"}}));
  const auto view = make_mounts({Kind::view, "/s/2/fs", {}, {"/s/1/fs"}}, {true, true});
  EXPECT_EQ(view[0], (Mount{"bind", "/s/1/fs", {"ro", "rbind"}}));
}

// The order is containerd's: clients compare mounts as lists.
TEST(Mounts, SeveralAreAnOverlay) {
  const auto active =
      make_mounts({Kind::active, "/s/3/fs", "/s/3/work", {"/s/2/fs", "/s/1/fs"}}, {true, true});
  ASSERT_EQ(active.size(), 1u);
  EXPECT_EQ(active[0].type, "overlay");
  EXPECT_EQ(active[0].source, "overlay");
  EXPECT_THAT(active[0].options, ElementsAre("index=off", "userxattr", "workdir=/s/3/work",
                                             "upperdir=/s/3/fs", "lowerdir=/s/2/fs:/s/1/fs"));
  const auto one = make_mounts({Kind::active, "/s/2/fs", "/s/2/work", {"/s/1/fs"}}, {});
  EXPECT_THAT(one[0].options,
              ElementsAre("workdir=/s/2/work", "upperdir=/s/2/fs", "lowerdir=/s/1/fs"));
  const auto view = make_mounts({Kind::view, "/s/3/fs", {}, {"/s/2/fs", "/s/1/fs"}}, {});
  EXPECT_THAT(view[0].options, ElementsAre("lowerdir=/s/2/fs:/s/1/fs"));
}

}  // namespace
}  // namespace pagein::snapshotter
