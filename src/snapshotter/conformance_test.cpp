// What every containerd snapshotter must do: asks what containerd's own suite
// asks (containerd snapshots/testsuite), of the class and over gRPC.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "snapshotter/snapshotter.h"
#include "snapshotter/test_api.h"

namespace pagein::snapshotter {
namespace {

namespace fs = std::filesystem;
using testing::UnorderedElementsAreArray;
using Change = std::function<void(const fs::path&)>;

enum class Way { direct, grpc };

class Conformance : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    auto dir = TempDir::make("pagein-snapshots-");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<TempDir>(*std::move(dir));
    auto snapshotter = Snapshotter::open({.root = dir_->path() / "root"});
    ASSERT_TRUE(snapshotter.ok()) << snapshotter.error().message;
    snapshotter_ = *std::move(snapshotter);
    api_ = GetParam() == Way::direct ? direct_api(*snapshotter_)
                                     : grpc_api(*snapshotter_, dir_->path());
    ASSERT_NE(api_, nullptr);
  }

  void need_mounts() {
    std::string why;
    if (!can_mount(why)) GTEST_SKIP() << why;
  }

  Mounted mount(const Result<std::vector<Mount>>& mounts, const std::string& at) {
    EXPECT_TRUE(mounts.ok()) << mounts.error().message;
    auto mounted = Mounted::make(*mounts, dir_->path() / at);
    EXPECT_TRUE(mounted.ok()) << mounted.error().message;
    return *std::move(mounted);
  }

  // Each change is made in an active snapshot on the one before and in a
  // plain folder: both must always be equal, at the end in a view as well.
  void check_layers(const std::vector<Change>& changes, const std::string& prefix = "") {
    const fs::path flat = dir_->path() / (prefix + "flat");
    fs::create_directory(flat);
    std::string parent;
    for (size_t i = 0; i < changes.size(); ++i) {
      const std::string key = prefix + "active-" + std::to_string(i);
      {
        const Mounted mounted = mount(api_->prepare(key, parent), key);
        ASSERT_EQ(tree_of(mounted.path()), tree_of(flat)) << "before layer " << i;
        changes[i](flat);
        changes[i](mounted.path());
        ASSERT_EQ(tree_of(mounted.path()), tree_of(flat)) << "after layer " << i;
      }
      parent = prefix + "layer-" + std::to_string(i);
      ASSERT_TRUE(api_->commit(parent, key).ok());
    }
    const Mounted view = mount(api_->view(prefix + "view", parent), prefix + "view");
    EXPECT_EQ(tree_of(view.path()), tree_of(flat));
  }

  // c1 <- c2 <- {a1, v1}; a2 and v2 without a parent.
  void make_base() {
    ASSERT_TRUE(api_->prepare("c1-a", "").ok());
    ASSERT_TRUE(api_->commit("c1", "c1-a").ok());
    ASSERT_TRUE(api_->prepare("c2-a", "c1").ok());
    ASSERT_TRUE(api_->commit("c2", "c2-a").ok());
    ASSERT_TRUE(api_->prepare("a1", "c2").ok());
    ASSERT_TRUE(api_->prepare("a2", "").ok());
    ASSERT_TRUE(api_->view("v1", "c2").ok());
    ASSERT_TRUE(api_->view("v2", "").ok());
  }

  std::vector<std::string> names(const std::vector<std::string>& filters) {
    const auto infos = api_->list(filters);
    EXPECT_TRUE(infos.ok()) << infos.error().message;
    std::vector<std::string> out;
    if (infos.ok()) {
      for (const Info& info : *infos) out.push_back(info.name);
    }
    return out;
  }

  void expect_error(const Result<void>& status, Code code) {
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, code) << status.error().message;
  }
  template <typename T>
  void expect_error(const Result<T>& result, Code code) {
    expect_error(result.ok() ? Status() : Status(result.error()), code);
  }

  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<Snapshotter> snapshotter_;
  std::unique_ptr<Api> api_;
};

INSTANTIATE_TEST_SUITE_P(Snapshotter, Conformance, testing::Values(Way::direct, Way::grpc),
                         [](const auto& way) {
                           return way.param == Way::direct ? "direct" : "grpc";
                         });

TEST_P(Conformance, Basic) {
  need_mounts();
  if (IsSkipped()) return;
  {
    const Mounted first = mount(api_->prepare("preparing", ""), "preparing");
    write_text(first.path() / "foo", "foo\n");
    fs::create_directories(first.path() / "a/b/c");
  }
  ASSERT_TRUE(api_->commit("committed", "preparing").ok());
  const auto committed = api_->stat("committed");
  ASSERT_TRUE(committed.ok());
  EXPECT_EQ(committed->kind, Kind::committed);
  EXPECT_EQ(committed->parent, "");
  expect_error(api_->stat("preparing"), Code::not_found);
  {
    const Mounted next = mount(api_->prepare("next", "committed"), "next");
    EXPECT_EQ(read_text(next.path() / "foo"), "foo\n");
    write_text(next.path() / "foo", "bar\n");
    write_text(next.path() / "bar", "bar\n");
    fs::remove_all(next.path() / "a/b");
  }
  const auto active = api_->stat("next");
  ASSERT_TRUE(active.ok());
  EXPECT_EQ(active->kind, Kind::active);
  EXPECT_EQ(active->parent, "committed");
  ASSERT_TRUE(api_->commit("committed-next", "next").ok());
  EXPECT_THAT(names({}), UnorderedElementsAreArray({"committed", "committed-next"}));
  {
    const Mounted view = mount(api_->view("view", "committed-next"), "view");
    EXPECT_EQ(read_text(view.path() / "foo"), "bar\n");
    EXPECT_TRUE(fs::exists(view.path() / "a"));
    EXPECT_FALSE(fs::exists(view.path() / "a/b"));
  }
  ASSERT_TRUE(api_->remove("view").ok());
  const Status refused = api_->remove("committed");
  expect_error(refused, Code::failed_precondition);
  EXPECT_NE(refused.error().message.find("remove"), std::string::npos);
  EXPECT_TRUE(api_->remove("committed-next").ok());
  EXPECT_TRUE(api_->remove("committed").ok());
}

TEST_P(Conformance, StatWhileMountedAndCommitWhileMounted) {
  need_mounts();
  if (IsSkipped()) return;
  const Mounted mounted = mount(api_->prepare("preparing", ""), "preparing");
  write_text(mounted.path() / "foo", "foo\n");
  const auto active = api_->stat("preparing");
  ASSERT_TRUE(active.ok());
  EXPECT_EQ(active->name, "preparing");
  EXPECT_EQ(active->kind, Kind::active);
  ASSERT_TRUE(api_->commit("committed", "preparing").ok());
  const auto committed = api_->stat("committed");
  ASSERT_TRUE(committed.ok());
  EXPECT_EQ(committed->name, "committed");
  EXPECT_EQ(committed->kind, Kind::committed);
}

TEST_P(Conformance, ParentsAreTransitive) {
  make_base();
  ASSERT_TRUE(api_->prepare("c3-a", "c2").ok());
  ASSERT_TRUE(api_->commit("c3", "c3-a").ok());
  EXPECT_EQ(api_->stat("c3")->parent, "c2");
  EXPECT_EQ(api_->stat("c2")->parent, "c1");
  EXPECT_EQ(api_->stat("c1")->parent, "");
}

TEST_P(Conformance, AKeyCanBeUsedOnce) {
  make_base();
  expect_error(api_->prepare("a1", "c2"), Code::already_exists);
  expect_error(api_->view("a1", "c2"), Code::already_exists);
  expect_error(api_->view("v1", "c2"), Code::already_exists);
  expect_error(api_->prepare("v1", "c2"), Code::already_exists);
  expect_error(api_->prepare("c1", ""), Code::already_exists);
}

TEST_P(Conformance, ParentsMustBeThereAndCommitted) {
  make_base();
  expect_error(api_->prepare("x", "nothing"), Code::not_found);
  expect_error(api_->prepare("x", "a1"), Code::invalid_argument);
  expect_error(api_->view("x", "v1"), Code::invalid_argument);
  expect_error(api_->stat("x"), Code::not_found);
}

TEST_P(Conformance, CommitNeedsAnActiveSnapshotAndAFreeName) {
  make_base();
  expect_error(api_->commit("new", "nothing"), Code::not_found);
  expect_error(api_->commit("new", "v1"), Code::failed_precondition);
  expect_error(api_->commit("new", "c1"), Code::failed_precondition);
  expect_error(api_->commit("c1", "a1"), Code::already_exists);
  EXPECT_EQ(api_->stat("a1")->kind, Kind::active);
}

TEST_P(Conformance, CommitReplacesLabels) {
  ASSERT_TRUE(api_->prepare("a", "", {{"old", "1"}, {"both", "1"}}).ok());
  ASSERT_TRUE(api_->commit("c", "a", {{"new", "2"}, {"both", "2"}, {"empty", ""}}).ok());
  EXPECT_EQ(api_->stat("c")->labels, (Labels{{"new", "2"}, {"both", "2"}}));
}

TEST_P(Conformance, MountsAreOnlyOfActiveAndViewAndStayTheSame) {
  make_base();
  const auto prepared = api_->prepare("x", "c2");
  ASSERT_TRUE(prepared.ok());
  EXPECT_EQ(*api_->mounts("x"), *prepared);
  EXPECT_TRUE(api_->mounts("v1").ok());
  expect_error(api_->mounts("c1"), Code::failed_precondition);
  expect_error(api_->mounts("nothing"), Code::not_found);
}

TEST_P(Conformance, Update) {
  const Time before = std::chrono::system_clock::now();
  make_base();
  const Time after = std::chrono::system_clock::now();
  const std::map<std::string, std::string> parents = {{"c1", ""}, {"c2", "c1"}, {"a1", "c2"},
                                                      {"a2", ""}, {"v1", "c2"}, {"v2", ""}};
  for (const auto& [name, parent] : parents) {
    SCOPED_TRACE(name);
    auto info = api_->stat(name);
    ASSERT_TRUE(info.ok());
    EXPECT_GE(info->created, before);
    EXPECT_LE(info->created, after);
    EXPECT_EQ(info->created, info->updated);
    EXPECT_EQ(info->parent, parent);
    const Time created = info->created;
    const Kind kind = info->kind;

    info->parent = "doesnotexist";
    info->labels = {{"l1", "v1"}, {"l2", "v2"}, {"l3", "v3"}};
    const Labels all = info->labels;
    info = api_->update(*info);
    ASSERT_TRUE(info.ok()) << info.error().message;
    EXPECT_EQ(info->created, created);
    EXPECT_GE(info->updated, after);
    EXPECT_EQ(info->kind, kind);
    EXPECT_EQ(info->parent, parent);
    EXPECT_EQ(info->labels, all);

    info->labels = {{"l1", "updated"}, {"l4", "v4"}};
    info = api_->update(*info, {"labels.l1", "labels.l2"});
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->labels, (Labels{{"l1", "updated"}, {"l3", "v3"}}));

    info->labels = {{"l4", "v4"}};
    info = api_->update(*info, {"labels"});
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->labels, (Labels{{"l4", "v4"}}));
    EXPECT_EQ(api_->stat(name)->labels, info->labels);

    info->parent = "doesnotexist";
    expect_error(api_->update(*info, {"parent"}), Code::invalid_argument);
  }
  Info nobody;
  nobody.name = "nothing";
  expect_error(api_->update(nobody), Code::not_found);
}

TEST_P(Conformance, RemoveMakesTheKeyFree) {
  ASSERT_TRUE(api_->prepare("committed-a", "").ok());
  ASSERT_TRUE(api_->commit("committed-1", "committed-a").ok());
  ASSERT_TRUE(api_->prepare("reuse", "committed-1").ok());
  ASSERT_TRUE(api_->remove("reuse").ok());
  ASSERT_TRUE(api_->view("reuse", "committed-1").ok());
  ASSERT_TRUE(api_->remove("reuse").ok());
  ASSERT_TRUE(api_->prepare("reuse", "").ok());
  ASSERT_TRUE(api_->remove("committed-1").ok());
  ASSERT_TRUE(api_->commit("committed-1", "reuse").ok());
  expect_error(api_->remove("reuse"), Code::not_found);
}

TEST_P(Conformance, OnlyTheTopOfAChainGoes) {
  make_base();
  expect_error(api_->remove("c1"), Code::failed_precondition);
  expect_error(api_->remove("c2"), Code::failed_precondition);
  ASSERT_TRUE(api_->remove("a1").ok());
  expect_error(api_->remove("c2"), Code::failed_precondition);
  ASSERT_TRUE(api_->remove("v1").ok());
  ASSERT_TRUE(api_->remove("c2").ok());
  ASSERT_TRUE(api_->remove("c1").ok());
}

TEST_P(Conformance, WalkWithFilters) {
  const Labels root{{"containerd.io/gc.root", "check-walk"}};
  auto with = [&](const std::string& value) {
    Labels labels = root;
    labels["l"] = value;
    return labels;
  };
  ASSERT_TRUE(api_->prepare("a-np", "", root).ok());
  ASSERT_TRUE(api_->prepare("p-tmp", "", root).ok());
  ASSERT_TRUE(api_->commit("p", "p-tmp", root).ok());
  ASSERT_TRUE(api_->prepare("a", "p", root).ok());
  ASSERT_TRUE(api_->view("v", "p", root).ok());
  ASSERT_TRUE(api_->prepare("p-wl-tmp", "", root).ok());
  ASSERT_TRUE(api_->commit("p-wl", "p-wl-tmp", with("1")).ok());
  ASSERT_TRUE(api_->prepare("a-wl", "p-wl", with("2")).ok());
  ASSERT_TRUE(api_->view("v-wl", "p-wl", with("3")).ok());
  ASSERT_TRUE(api_->prepare("a-np-wl", "", with("2")).ok());
  const std::string rooted = "labels.\"containerd.io/gc.root\"==check-walk";
  const std::vector<std::pair<std::vector<std::string>, std::vector<std::string>>> cases = {
      {{rooted}, {"a-np", "p", "a", "v", "p-wl", "a-wl", "v-wl", "a-np-wl"}},
      {{"kind==active," + rooted}, {"a-np", "a", "a-wl", "a-np-wl"}},
      {{"kind==view," + rooted}, {"v", "v-wl"}},
      {{"kind==committed," + rooted}, {"p", "p-wl"}},
      {{"name==p", "name==a-np-wl"}, {"p", "a-np-wl"}},
      {{"name==a-wl,labels.l"}, {"a-wl"}},
      {{"parent==p"}, {"a", "v"}},
      {{"parent!=\"\"," + rooted}, {"a", "v", "a-wl", "v-wl"}},
      {{"labels.l"}, {"p-wl", "a-wl", "v-wl", "a-np-wl"}},
      {{"labels.l==2"}, {"a-wl", "a-np-wl"}},
      {{"labels.l~=/^[13]$/"}, {"p-wl", "v-wl"}},
  };
  for (const auto& [filters, matches] : cases) {
    EXPECT_THAT(names(filters), UnorderedElementsAreArray(matches)) << filters.front();
  }
  expect_error(api_->list({"name=="}), Code::invalid_argument);
}

TEST_P(Conformance, StatDuringAWalk) {
  make_base();
  const auto infos = api_->list();
  ASSERT_TRUE(infos.ok());
  EXPECT_EQ(infos->size(), 6u);
  for (const Info& walked : *infos) {
    const auto info = api_->stat(walked.name);
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->kind, walked.kind);
    EXPECT_EQ(info->parent, walked.parent);
    EXPECT_EQ(info->created, walked.created);
  }
}

TEST_P(Conformance, ViewIsReadOnly) {
  need_mounts();
  if (IsSkipped()) return;
  ASSERT_TRUE(api_->prepare("a", "").ok());
  ASSERT_TRUE(api_->commit("c", "a").ok());
  ASSERT_TRUE(api_->prepare("a2", "c").ok());
  ASSERT_TRUE(api_->commit("c2", "a2").ok());
  for (const std::string parent : {"", "c", "c2"}) {
    const Mounted view = mount(api_->view("v-" + parent, parent), "v-" + parent);
    EXPECT_NE(::mkdir((view.path() / "x").c_str(), 0755), 0) << parent;
    EXPECT_EQ(errno, EROFS);
  }
}

TEST_P(Conformance, RootFolderIs0755WhateverTheUmask) {
  need_mounts();
  if (IsSkipped()) return;
  const mode_t old = ::umask(0077);
  const Mounted mounted = mount(api_->prepare("a", ""), "m");
  ::umask(old);
  struct stat st;
  ASSERT_EQ(::stat(mounted.path().c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0755u);
}

TEST_P(Conformance, RootFolderKeepsOwnerAndModeOfTheParent) {
  need_mounts();
  if (IsSkipped()) return;
  {
    const Mounted mounted = mount(api_->prepare("a", ""), "m");
    ASSERT_EQ(::chown(mounted.path().c_str(), 1000, 1001), 0);
    ASSERT_EQ(::chmod(mounted.path().c_str(), 01770), 0);
  }
  ASSERT_TRUE(api_->commit("c", "a").ok());
  const Mounted mounted = mount(api_->prepare("a2", "c"), "m2");
  struct stat st;
  ASSERT_EQ(::stat(mounted.path().c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 1000u);
  EXPECT_EQ(st.st_gid, 1001u);
  EXPECT_EQ(st.st_mode & 07777, 01770u);
}

TEST_P(Conformance, LayerFileUpdate) {
  need_mounts();
  if (IsSkipped()) return;
  check_layers({[](const fs::path& root) {
                  fs::create_directory(root / "etc");
                  write_text(root / "etc/hosts", "mydomain 10.0.0.1");
                  write_text(root / "etc/profile", "PATH=/usr/bin");
                },
                [](const fs::path& root) {
                  write_text(root / "etc/hosts", "mydomain 10.0.0.2");
                  write_text(root / "etc/profile", "PATH=/usr/bin", 0666);
                  fs::create_directory(root / "root");
                  write_text(root / "root/.bashrc", "PATH=/usr/sbin:/usr/bin");
                }});
}

TEST_P(Conformance, RemoveDirectoryInLowerLayer) {
  need_mounts();
  if (IsSkipped()) return;
  check_layers({[](const fs::path& root) {
                  fs::create_directory(root / "lib");
                  write_text(root / "lib/hidden", "");
                },
                [](const fs::path& root) {
                  fs::remove_all(root / "lib");
                  fs::create_directory(root / "lib");
                  write_text(root / "lib/not-hidden", "");
                },
                [](const fs::path& root) { write_text(root / "lib/newfile", ""); }});
}

TEST_P(Conformance, Chown) {
  need_mounts();
  if (IsSkipped()) return;
  check_layers({[](const fs::path& root) {
                  fs::create_directories(root / "opt/a/b");
                  write_text(root / "opt/a/b/file.txt", "hello");
                },
                [](const fs::path& root) {
                  for (const char* path : {"opt", "opt/a", "opt/a/b", "opt/a/b/file.txt"}) {
                    ASSERT_EQ(::chown((root / path).c_str(), 1, 1), 0);
                  }
                }});
}

TEST_P(Conformance, DirectoryPermissionOnCommit) {
  need_mounts();
  if (IsSkipped()) return;
  auto own = [](const fs::path& path, uid_t id) { ASSERT_EQ(::chown(path.c_str(), id, id), 0); };
  check_layers({[&](const fs::path& root) {
                  for (const char* name : {"dir1", "dir2", "dir3", "dir4", "dir5"}) {
                    fs::create_directory(root / name);
                    ::chmod((root / name).c_str(), 0700);
                  }
                  write_text(root / "dir4/f1", "...");
                  write_text(root / "dir5/f1", "...");
                  for (const char* name : {"dir1", "dir2", "dir3", "dir5", "dir5/f1"}) {
                    own(root / name, 1);
                  }
                },
                [&](const fs::path& root) {
                  own(root / "dir2", 0);
                  fs::remove_all(root / "dir3");
                  own(root / "dir4", 1);
                  own(root / "dir4/f1", 1);
                },
                [&](const fs::path& root) {
                  fs::create_directory(root / "dir3");
                  own(root / "dir3", 1);
                  fs::remove_all(root / "dir5");
                  fs::create_directory(root / "dir5");
                  own(root / "dir5", 1);
                }});
}

TEST_P(Conformance, DeletedFilesAreGone) {
  need_mounts();
  if (IsSkipped()) return;
  check_layers({[](const fs::path& root) {
                  write_text(root / "foo", "foo\n");
                  write_text(root / "foobar", "foobar\n");
                },
                [](const fs::path& root) { fs::remove(root / "foobar"); }, [](const fs::path&) {}});
}

TEST_P(Conformance, MoveFileFromLowerLayer) {
  need_mounts();
  if (IsSkipped()) return;
  check_layers({[](const fs::path& root) {
                  fs::create_directory(root / "dir1");
                  write_text(root / "dir1/f1", "Hello");
                  fs::create_directory(root / "dir2");
                  write_text(root / "dir2/f2", "...");
                },
                [](const fs::path& root) {
                  fs::create_directory(root / "dir3");
                  write_text(root / "dir3/f1", "Hello");
                  fs::remove_all(root / "dir1");
                  fs::create_hard_link(root / "dir2/f2", root / "dir3/f2");
                  fs::remove(root / "dir2/f2");
                }});
}

TEST_P(Conformance, RenameFilesAndNewFolders) {
  need_mounts();
  if (IsSkipped()) return;
  check_layers({[](const fs::path& root) {
                  fs::create_directory(root / "somefiles");
                  write_text(root / "somefiles/f1", "was here first!");
                  write_text(root / "somefiles/f2", "nothing interesting");
                },
                [](const fs::path& root) {
                  fs::create_directory(root / "dir1");
                  write_text(root / "dir1/x", "x");
                  fs::rename(root / "dir1", root / "dir2");  // one of a lower answers EXDEV
                  write_text(root / "somefiles/f1-overwrite", "new content 1");
                  fs::rename(root / "somefiles/f1-overwrite", root / "somefiles/f1");
                  fs::rename(root / "somefiles/f2", root / "somefiles/f3");
                }});
}

TEST_P(Conformance, Layers128) {
  need_mounts();
  if (IsSkipped()) return;
  std::vector<Change> changes = {[](const fs::path& root) {
    write_text(root / "bottom", "way at the bottom\n");
    write_text(root / "overwriteme", "FIRST!\n");
    fs::create_directory(root / "ADDHERE");
    fs::create_directory(root / "ONLYME");
    write_text(root / "ONLYME/bottom", "bye!\n");
  }};
  for (int i = 1; i < 128; ++i) {
    changes.push_back([i](const fs::path& root) {
      write_text(root / "overwriteme", std::to_string(i) + " WAS HERE!\n");
      write_text(root / "ADDHERE" / ("file-" + std::to_string(i)), "same\n");
      fs::remove_all(root / "ONLYME");
      fs::create_directory(root / "ONLYME");
      write_text(root / "ONLYME" / ("file-" + std::to_string(i)), "only me!\n");
    });
  }
  check_layers(changes);
}

TEST_P(Conformance, UsageCountsTheSnapshotAlone) {
  need_mounts();
  if (IsSkipped()) return;
  {
    const Mounted mounted = mount(api_->prepare("a", ""), "m");
    write_text(mounted.path() / "big", std::string(1 << 20, 'x'));
    fs::create_hard_link(mounted.path() / "big", mounted.path() / "same");
    const auto usage = api_->usage("a");
    ASSERT_TRUE(usage.ok()) << usage.error().message;
    EXPECT_GE(usage->size, 1u << 20);
    EXPECT_LT(usage->size, (1u << 20) + 65536);
    EXPECT_EQ(usage->inodes, 2u);  // the root folder and one file
  }
  ASSERT_TRUE(api_->commit("c", "a").ok());
  EXPECT_EQ(api_->usage("c")->inodes, 2u);
  ASSERT_TRUE(api_->prepare("a2", "c").ok());
  EXPECT_LT(api_->usage("a2")->size, 65536u);
  ASSERT_TRUE(api_->view("v", "c").ok());
  EXPECT_EQ(api_->usage("v")->size, 0u);
  expect_error(api_->usage("nothing"), Code::not_found);
}

TEST_P(Conformance, CleanupRemovesOrphans) {
  make_base();
  const fs::path snapshots = dir_->path() / "root/snapshots";
  fs::create_directories(snapshots / "999/fs/deep/er");
  write_text(snapshots / "stray", "x");
  ASSERT_TRUE(api_->cleanup().ok());
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(snapshots)) ++count;
  EXPECT_EQ(count, 6u);  // I1
}

}  // namespace
}  // namespace pagein::snapshotter
