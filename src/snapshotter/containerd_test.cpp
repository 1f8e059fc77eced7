// A real containerd with this snapshotter as its proxy plugin.
#include "snapshotter/test_api.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "containerd/pull.h"
#include "containerd/test_containerd.h"
#include "containerd/test_image.h"
#include "snapshotter/fake_backend.h"
#include "snapshotter/server.h"
#include "snapshotter/snapshotter.h"

namespace pagein::snapshotter {
namespace {

namespace fs = std::filesystem;
using containerd::LayerState;
using Files = std::map<std::string, std::string>;
using testing::ElementsAre;

// Without a container that refers to it, a snapshot is garbage.
const Labels kRoot{{"containerd.io/gc.root", "test"}};

class Plugin : public testing::Test {
 protected:
  void SetUp() override {
    std::string why = containerd::TestContainerd::missing();
    if (!why.empty() || !can_mount(why)) GTEST_SKIP() << why;
    dir_ = std::make_unique<TempDir>(*TempDir::make("pagein-plugin-"));
    backend_ = std::make_unique<FakeBackend>(dir_->path() / "runs", true);
    start_snapshotter();
    daemon_ = std::make_unique<containerd::TestContainerd>(dir_->path(), socket());
    client_ = daemon_->client();
    ASSERT_TRUE(client_->version().ok());
  }
  void TearDown() override {
    client_.reset();
    daemon_.reset();
    server_.reset();
    snapshotter_.reset();
    backend_.reset();
  }

  std::string socket() const { return (dir_->path() / "plugin.sock").string(); }

  void start_snapshotter() {
    server_.reset();
    snapshotter_.reset();
    auto opened = Snapshotter::open({.root = dir_->path() / "snap", .backend = backend_.get()});
    ASSERT_TRUE(opened.ok()) << opened.error().message;
    snapshotter_ = *std::move(opened);
    EXPECT_TRUE(snapshotter_->reattach().failed.empty());
    auto server = Server::start(*snapshotter_, {.socket = socket()});
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = *std::move(server);
  }

  containerd::PullPlan plan(const oci::Descriptor& target) {
    auto planned = containerd::plan_pull(
        {"example.com/app:1", target, oci::Platform::host(), "example.com", "app"}, source_);
    EXPECT_TRUE(planned.ok()) << planned.error().message;
    return *planned;
  }

  // The backend serves this layer of the image.
  void serve(const containerd::PullPlan& plan, size_t layer, const Files& files) {
    const fs::path folder = dir_->path() / ("layer-" + std::to_string(layer));
    fs::create_directory(folder);
    for (const auto& [name, text] : files) write_text(folder / name, text);
    backend_->offered[plan.chain_ids[layer].str()] = folder.string();
  }

  std::vector<LayerState> pull(const containerd::PullPlan& plan,
                               const std::string& snapshotter = "pagein") {
    containerd::PullOptions options;
    options.snapshotter = snapshotter;
    const auto summary = containerd::pull_image(*client_, plan, source_, options);
    EXPECT_TRUE(summary.ok()) << summary.error().message;
    std::vector<LayerState> states;
    if (summary.ok()) {
      for (const auto& layer : summary->layers) states.push_back(layer.state);
    }
    return states;
  }

  // The container's root, through containerd.
  std::map<std::string, std::string> root_of(const containerd::PullPlan& plan,
                                             const std::string& snapshotter = "pagein") {
    const std::string key = "run-" + std::to_string(++count_);
    const auto mounts =
        client_->prepare_snapshot({snapshotter, key, plan.chain_ids.back().str(), kRoot});
    EXPECT_TRUE(mounts.ok()) << mounts.error().message;
    if (!mounts.ok()) return {};
    std::map<std::string, std::string> tree;
    {
      const auto mounted = Mounted::make(to_mounts(*mounts), dir_->path() / key);
      EXPECT_TRUE(mounted.ok()) << mounted.error().message;
      if (mounted.ok()) tree = tree_of(mounted->path());
    }
    EXPECT_TRUE(client_->remove_snapshot(snapshotter, key).ok());
    return tree;
  }

  static std::vector<Mount> to_mounts(const std::vector<containerd::Mount>& mounts) {
    std::vector<Mount> out;
    for (const auto& mount : mounts) out.push_back({mount.type, mount.source, mount.options});
    return out;
  }

  std::unique_ptr<TempDir> dir_;
  std::unique_ptr<FakeBackend> backend_;
  std::unique_ptr<Snapshotter> snapshotter_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<containerd::TestContainerd> daemon_;
  std::unique_ptr<containerd::Client> client_;
  containerd::FakeSource source_;
  int count_ = 0;
};

TEST_F(Plugin, OrdinaryLayersGiveWhatOverlayfsGives) {
  const auto parts = source_.add_image(
      {{{"a", "1"}, {"b", "1"}, {"gone", "x"}}, {{"b", "2"}, {".wh.gone", ""}}, {{"c", "3"}}});
  const auto planned = plan(parts.index);
  const auto unpacked = LayerState::unpacked;
  EXPECT_THAT(pull(planned), ElementsAre(unpacked, unpacked, unpacked));
  EXPECT_THAT(pull(planned, "overlayfs"), ElementsAre(unpacked, unpacked, unpacked));
  const auto tree = root_of(planned);
  EXPECT_EQ(tree.size(), 3u);
  EXPECT_EQ(tree, root_of(planned, "overlayfs"));
}

TEST_F(Plugin, LazyLayersAreNotFetched) {
  const auto parts = source_.add_image({{{"a", "1"}}, {{"b", "2"}}});
  const auto planned = plan(parts.index);
  serve(planned, 0, {{"a", "1"}});
  serve(planned, 1, {{"b", "2"}});
  EXPECT_THAT(pull(planned), ElementsAre(LayerState::lazy, LayerState::lazy));
  EXPECT_EQ(source_.opened, 0);
  const Labels& labels = backend_->requests.at(1).labels;
  EXPECT_EQ(labels.at("containerd.io/snapshot/cri.layer-digest"), parts.layers[1].digest.str());
  EXPECT_EQ(labels.at("containerd.io/snapshot/cri.manifest-digest"), parts.manifest.digest.str());
  EXPECT_EQ(root_of(planned).size(), 2u);
  EXPECT_THAT(pull(planned), ElementsAre(LayerState::present, LayerState::present));
}

TEST_F(Plugin, LazyAndOrdinaryMixed) {
  const auto parts = source_.add_image({{{"a", "1"}}, {{"b", "2"}}, {{"c", "3"}}, {{"d", "4"}}});
  const auto planned = plan(parts.index);
  serve(planned, 0, {{"a", "1"}});
  serve(planned, 2, {{"c", "3"}});
  EXPECT_THAT(pull(planned), ElementsAre(LayerState::lazy, LayerState::unpacked, LayerState::lazy,
                                         LayerState::unpacked));
  EXPECT_EQ(source_.opened, 2);
  EXPECT_EQ(root_of(planned).size(), 4u);
}

TEST_F(Plugin, NamespacesShareLazyLayers) {
  const auto parts = source_.add_image({{{"a", "1"}}, {{"b", "2"}}, {{"c", "3"}}});
  const auto planned = plan(parts.index);
  serve(planned, 0, {{"a", "1"}});
  serve(planned, 2, {{"c", "3"}});
  pull(planned);
  client_ = containerd::Client::open({.socket = daemon_->socket(), .name_space = "other"});
  EXPECT_THAT(pull(planned), ElementsAre(LayerState::lazy, LayerState::unpacked, LayerState::lazy));
  EXPECT_EQ(root_of(planned).size(), 3u);
}

TEST_F(Plugin, TheCollectorReachesTheBackend) {
  const auto parts = source_.add_image({{{"a", "1"}}, {{"b", "2"}}});
  const auto planned = plan(parts.index);
  serve(planned, 0, {{"a", "1"}});
  pull(planned);
  ASSERT_TRUE(client_->delete_image("example.com/app:1").ok());
  EXPECT_THAT(snapshotter_->list({})->size(), 0u);
  EXPECT_THAT(backend_->removed, ElementsAre("layer:" + planned.chain_ids[0].str()));
  EXPECT_TRUE(fs::is_empty(dir_->path() / "snap/snapshots"));
  // And back.
  EXPECT_THAT(pull(planned), ElementsAre(LayerState::lazy, LayerState::unpacked));
}

TEST_F(Plugin, RestartsOfBothSides) {
  const auto parts = source_.add_image({{{"a", "1"}}, {{"b", "2"}}});
  const auto planned = plan(parts.index);
  serve(planned, 0, {{"a", "1"}});
  pull(planned);
  const auto mounts =
      client_->prepare_snapshot({"pagein", "running", planned.chain_ids.back().str(), kRoot});
  ASSERT_TRUE(mounts.ok());
  start_snapshotter();
  // The plugin's client reconnects on its own; its first call may find it away.
  daemon_->stop(SIGKILL);
  daemon_->start();
  client_ = daemon_->client();
  const auto again = client_->snapshot_mounts("pagein", "running");
  ASSERT_TRUE(again.ok()) << again.error().message;
  EXPECT_EQ(to_mounts(*again), to_mounts(*mounts));
  EXPECT_EQ(root_of(planned).size(), 2u);
}

TEST_F(Plugin, ABackendThatFailsDoesNotFailThePull) {
  const auto parts = source_.add_image({{{"a", "1"}}});
  backend_->fail_prepare = true;
  EXPECT_THAT(pull(plan(parts.index)), ElementsAre(LayerState::unpacked));
}

}  // namespace
}  // namespace pagein::snapshotter
