// Remote layers, alone and between ordinary ones, with a fake backend.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <thread>

#include "snapshotter/fake_backend.h"
#include "snapshotter/snapshotter.h"
#include "snapshotter/test_api.h"

namespace pagein::snapshotter {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

Labels lazy(const std::string& chain) {
  return {{kSnapshotRefLabel, chain}, {"containerd.io/snapshot/cri.layer-digest", "sha256:x"}};
}

class Remote : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = TempDir::make("pagein-remote-");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<TempDir>(*std::move(dir));
    start(false);
  }

  void start(bool mounting) {
    snapshotter_.reset();
    backend_.reset();
    backend_ = std::make_unique<FakeBackend>(dir_->path() / "runs", mounting);
    for (const auto& [chain, folder] : offered_) backend_->offered[chain] = folder;
    auto snapshotter =
        Snapshotter::open({.root = dir_->path() / "root", .backend = backend_.get()});
    ASSERT_TRUE(snapshotter.ok()) << snapshotter.error().message;
    snapshotter_ = *std::move(snapshotter);
  }

  void need_mounts() {
    std::string why;
    if (!can_mount(why)) GTEST_SKIP() << why;
    start(true);
  }

  // The backend can serve this chain; its layer holds these files.
  void offer(const std::string& chain, const std::map<std::string, std::string>& files = {}) {
    const fs::path folder = dir_->path() / ("layer-" + chain);
    fs::create_directory(folder);
    for (const auto& [name, text] : files) write_text(folder / name, text);
    offered_[chain] = backend_->offered[chain] = folder.string();
  }

  void expect_lazy(const std::string& chain, const std::string& parent) {
    const auto prepared = snapshotter_->prepare("extract-1 " + chain, parent, lazy(chain));
    ASSERT_FALSE(prepared.ok());
    EXPECT_EQ(prepared.error().code, Code::already_exists) << prepared.error().message;
  }

  void make_ordinary(const std::string& name, const std::string& parent,
                     const std::map<std::string, std::string>& files = {}) {
    auto mounts = snapshotter_->prepare(name + "-a", parent, lazy("declined-" + name));
    ASSERT_TRUE(mounts.ok()) << mounts.error().message;
    if (!files.empty()) {
      const auto mounted = Mounted::make(*mounts, dir_->path() / "m");
      ASSERT_TRUE(mounted.ok()) << mounted.error().message;
      for (const auto& [file, text] : files) write_text(mounted->path() / file, text);
    }
    ASSERT_TRUE(snapshotter_->commit(name, name + "-a", {}).ok());
  }

  std::vector<std::string> found(const std::string& filter) {
    const auto infos = snapshotter_->list({filter});
    std::vector<std::string> names;
    if (infos.ok()) {
      for (const Info& info : *infos) names.push_back(info.name);
    }
    return names;
  }

  std::unique_ptr<TempDir> dir_;
  std::map<std::string, std::string> offered_;
  std::unique_ptr<FakeBackend> backend_;
  std::unique_ptr<Snapshotter> snapshotter_;
};

TEST_F(Remote, AServedLayerIsFoundAsContainerdLooksForIt) {
  offer("sha256:1");
  expect_lazy("sha256:1", "");
  // containerd's metadata plugin, after already-exists: by label and parent.
  EXPECT_THAT(found("labels.\"containerd.io/snapshot.ref\"==sha256:1,parent==\"\""),
              ElementsAre("sha256:1"));
  const auto info = snapshotter_->stat("sha256:1");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->kind, Kind::committed);
  EXPECT_EQ(info->labels, lazy("sha256:1"));
  EXPECT_EQ(backend_->requests.at(0).labels, lazy("sha256:1"));
  // The extraction key was never used.
  EXPECT_FALSE(snapshotter_->stat("extract-1 sha256:1").ok());
}

TEST_F(Remote, ASecondPrepareDoesNotAskAgain) {
  offer("sha256:1");
  expect_lazy("sha256:1", "");
  expect_lazy("sha256:1", "");
  EXPECT_EQ(backend_->requests.size(), 1u);
  EXPECT_EQ(found("").size(), 1u);  // I3
}

TEST_F(Remote, TheRequestNamesTheParentsLayer) {
  offer("sha256:1");
  offer("sha256:2");
  expect_lazy("sha256:1", "");
  expect_lazy("sha256:2", "sha256:1");
  EXPECT_EQ(backend_->requests.at(1).parent, "sha256:1");
  EXPECT_EQ(backend_->requests.at(1).parent_layer, "layer:sha256:1");
}

TEST_F(Remote, DecliningOrFailingLeavesTheLayerToContainerd) {
  EXPECT_TRUE(snapshotter_->prepare("a", "", lazy("sha256:1")).ok());
  backend_->fail_prepare = true;
  EXPECT_TRUE(snapshotter_->prepare("b", "", lazy("sha256:2")).ok());
  EXPECT_EQ(backend_->requests.size(), 2u);
}

TEST_F(Remote, WithoutTheLabelTheBackendIsNotAsked) {
  offer("sha256:1");
  EXPECT_TRUE(snapshotter_->prepare("a", "", {}).ok());
  EXPECT_TRUE(snapshotter_->view("v", "", lazy("sha256:1")).ok());
  EXPECT_THAT(backend_->requests, IsEmpty());
}

TEST_F(Remote, WrongParentsAreRefusedAsForOrdinaryLayers) {
  offer("sha256:1");
  EXPECT_EQ(snapshotter_->prepare("a", "nothing", lazy("sha256:1")).error().code, Code::not_found);
  ASSERT_TRUE(snapshotter_->prepare("a", "", {}).ok());
  EXPECT_EQ(snapshotter_->prepare("b", "a", lazy("sha256:1")).error().code, Code::invalid_argument);
}

// Each containerd namespace names an ordinary layer differently, so the same
// chain can stand on two parents.
TEST_F(Remote, OneChainOnTwoParents) {
  make_ordinary("ns1/1/base", "");
  make_ordinary("ns2/1/base", "");
  offer("sha256:2");
  expect_lazy("sha256:2", "ns1/1/base");
  expect_lazy("sha256:2", "ns2/1/base");
  expect_lazy("sha256:2", "ns2/1/base");
  const auto one = found("labels.\"containerd.io/snapshot.ref\"==sha256:2,parent==\"ns1/1/base\"");
  const auto two = found("labels.\"containerd.io/snapshot.ref\"==sha256:2,parent==\"ns2/1/base\"");
  ASSERT_EQ(one.size(), 1u);
  ASSERT_EQ(two.size(), 1u);
  EXPECT_NE(one, two);
  // The layer goes with the second of them only.
  ASSERT_TRUE(snapshotter_->remove(one[0]).ok());
  EXPECT_THAT(backend_->removed, IsEmpty());
  ASSERT_TRUE(snapshotter_->remove(two[0]).ok());
  EXPECT_THAT(backend_->removed, ElementsAre("layer:sha256:2"));
}

TEST_F(Remote, TheRefLabelSurvivesAnUpdate) {
  offer("sha256:1");
  expect_lazy("sha256:1", "");
  Info info;
  info.name = "sha256:1";
  info.labels = {{"other", "x"}};
  const auto updated = snapshotter_->update(info, {"labels"});
  ASSERT_TRUE(updated.ok());
  EXPECT_EQ(updated->labels, (Labels{{kSnapshotRefLabel, "sha256:1"}, {"other", "x"}}));
}

TEST_F(Remote, RunsBetweenOrdinaryLayers) {
  for (const char* chain : {"r1", "r2", "r3"}) offer(chain);
  expect_lazy("r1", "");
  expect_lazy("r2", "r1");
  make_ordinary("o1", "r2");
  expect_lazy("r3", "o1");
  make_ordinary("o2", "r3");
  backend_->runs.clear();
  const auto mounts = snapshotter_->prepare("c", "o2", {});
  ASSERT_TRUE(mounts.ok()) << mounts.error().message;

  ASSERT_EQ(backend_->runs.size(), 2u);
  std::string lower, upper;
  for (const auto& [key, run] : backend_->runs) {
    if (run.request.layers == std::vector<std::string>{"layer:r1", "layer:r2"}) {
      EXPECT_THAT(run.request.ordinary_below, IsEmpty());
      EXPECT_FALSE(run.request.remote_below);
      lower = run.dir;
    } else {
      EXPECT_THAT(run.request.layers, ElementsAre("layer:r3"));
      EXPECT_EQ(run.request.ordinary_below.size(), 1u);
      EXPECT_TRUE(run.request.remote_below);
      upper = run.dir;
    }
  }
  const std::string stack = mounts->at(0).options.back();
  const fs::path root = dir_->path() / "root/snapshots";
  // o1 has id 3 and o2 id 5: r1, r2, o1, r3, o2.
  EXPECT_EQ(stack, "lowerdir=" + (root / "5/fs").string() + ":" + upper + ":" +
                       (root / "3/fs").string() + ":" + lower);
  EXPECT_EQ(*snapshotter_->mounts("c"), *mounts);  // I5
}

TEST_F(Remote, AViewOfOneRunIsABindMount) {
  offer("r1");
  offer("r2");
  expect_lazy("r1", "");
  expect_lazy("r2", "r1");
  const auto mounts = snapshotter_->view("v", "r2", {});
  ASSERT_TRUE(mounts.ok());
  ASSERT_EQ(mounts->size(), 1u);
  EXPECT_EQ(mounts->at(0).type, "bind");
  EXPECT_EQ(mounts->at(0).source, backend_->runs.begin()->second.dir);
  EXPECT_THAT(mounts->at(0).options, ElementsAre("ro", "rbind"));
}

TEST_F(Remote, HoldersAreTheLivingSnapshots) {  // I4
  offer("r1");
  expect_lazy("r1", "");
  ASSERT_TRUE(snapshotter_->prepare("a", "r1", {}).ok());  // id 2
  ASSERT_TRUE(snapshotter_->prepare("b", "r1", {}).ok());  // id 3
  ASSERT_TRUE(snapshotter_->view("v", "r1", {}).ok());     // id 4
  EXPECT_THAT(backend_->holders(), ElementsAre("2", "3", "4"));
  ASSERT_TRUE(snapshotter_->commit("c", "a", {}).ok());
  ASSERT_TRUE(snapshotter_->remove("v").ok());
  EXPECT_THAT(backend_->holders(), ElementsAre("3"));
}

TEST_F(Remote, AFailedMountLeavesNothing) {
  offer("r1");
  expect_lazy("r1", "");
  backend_->fail_mount = true;
  const auto mounts = snapshotter_->prepare("a", "r1", {});
  ASSERT_FALSE(mounts.ok());
  EXPECT_EQ(mounts.error().code, Code::unavailable);
  EXPECT_FALSE(snapshotter_->stat("a").ok());
  EXPECT_TRUE(fs::is_empty(dir_->path() / "root/snapshots"));
  backend_->fail_mount = false;
  EXPECT_TRUE(snapshotter_->prepare("a", "r1", {}).ok());
}

TEST_F(Remote, RestartPinsTheRunsAgain) {
  offer("r1");
  offer("r2");
  expect_lazy("r1", "");
  expect_lazy("r2", "r1");
  ASSERT_TRUE(snapshotter_->prepare("a", "r2", {}).ok());
  ASSERT_TRUE(snapshotter_->prepare("plain", "", {}).ok());
  ASSERT_TRUE(snapshotter_->view("v", "r1", {}).ok());
  start(false);
  EXPECT_THAT(backend_->holders(), IsEmpty());
  const ReattachReport report = snapshotter_->reattach();
  EXPECT_EQ(report.attached, 2u);
  EXPECT_THAT(report.failed, IsEmpty());
  EXPECT_EQ(backend_->holders().size(), 2u);
  EXPECT_THAT(backend_->live, testing::UnorderedElementsAre("layer:r1", "layer:r2"));
  EXPECT_TRUE(snapshotter_->mounts("a").ok());
}

TEST_F(Remote, AFailedReattachDropsNothing) {
  offer("r1");
  expect_lazy("r1", "");
  ASSERT_TRUE(snapshotter_->prepare("a", "r1", {}).ok());
  start(false);
  backend_->fail_mount = true;
  const ReattachReport report = snapshotter_->reattach();
  EXPECT_EQ(report.attached, 0u);
  EXPECT_EQ(report.failed.size(), 1u);
  EXPECT_THAT(backend_->live, IsEmpty());
  backend_->fail_mount = false;
  EXPECT_TRUE(snapshotter_->mounts("a").ok());
}

TEST_F(Remote, WithoutABackendRemoteLayersAreUnavailable) {
  offer("r1");
  expect_lazy("r1", "");
  snapshotter_.reset();
  auto alone = Snapshotter::open({.root = dir_->path() / "root"});
  ASSERT_TRUE(alone.ok());
  EXPECT_EQ((*alone)->prepare("a", "r1", {}).error().code, Code::unavailable);
  EXPECT_TRUE((*alone)->remove("r1").ok());
}

TEST_F(Remote, UsageOfALayerIsTheBackends) {
  offer("r1");
  expect_lazy("r1", "");
  EXPECT_EQ(snapshotter_->usage("r1")->inodes, 7u);
}

// A Remove must not make the backend drop a layer that a Prepare, under way at
// the same time, has just been promised.
TEST_F(Remote, ADropWaitsForAPrepare) {
  offer("r1");
  offer("r2");
  expect_lazy("r1", "");
  std::thread remover;
  backend_->on_prepare = [&] {
    remover = std::thread([&] { EXPECT_TRUE(snapshotter_->remove("r1").ok()); });
    remover.join();  // done, though the drop has to wait
    EXPECT_THAT(backend_->removed, IsEmpty());
  };
  expect_lazy("r2", "");
  EXPECT_THAT(backend_->removed, ElementsAre("layer:r1"));
}

TEST_F(Remote, ConcurrentPreparesOfOneLayer) {
  offer("r1");
  std::vector<std::thread> threads;
  std::atomic<int> served = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      const auto prepared = snapshotter_->prepare("k" + std::to_string(i), "", lazy("r1"));
      if (!prepared.ok() && prepared.error().code == Code::already_exists) ++served;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(served, 8);
  EXPECT_THAT(found(""), ElementsAre("r1"));
}

TEST_F(Remote, MixedStackShowsTheRightTree) {
  need_mounts();
  if (IsSkipped()) return;
  offer("r1", {{"a", "r1"}, {"b", "r1"}, {"c", "r1"}});
  offer("r2", {{"b", "r2"}});
  offer("r3", {{"d", "r3"}, {"e", "r3"}});
  ASSERT_EQ(::chown(offered_["r3"].c_str(), 12, 34), 0);
  expect_lazy("r1", "");
  expect_lazy("r2", "r1");
  make_ordinary("o1", "r2", {{"c", "o1"}, {"d", "o1"}});
  expect_lazy("r3", "o1");
  const auto mounts = snapshotter_->prepare("c", "r3", {});
  ASSERT_TRUE(mounts.ok()) << mounts.error().message;
  const auto mounted = Mounted::make(*mounts, dir_->path() / "c");
  ASSERT_TRUE(mounted.ok()) << mounted.error().message;
  std::string all;
  for (const char* name : {"a", "b", "c", "d", "e"}) all += read_text(mounted->path() / name) + " ";
  EXPECT_EQ(all, "r1 r2 o1 r3 r3 ");
  struct stat st;
  ASSERT_EQ(::stat(mounted->path().c_str(), &st), 0);
  EXPECT_EQ(st.st_uid, 12u);
  write_text(mounted->path() / "a", "changed");
  fs::remove(mounted->path() / "b");
  EXPECT_EQ(read_text(mounted->path() / "a"), "changed");
}

}  // namespace
}  // namespace pagein::snapshotter
