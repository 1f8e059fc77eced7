#include "node/image_mounts.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/log.h"
#include "index/test_layer.h"
#include "node/fake_engine.h"

namespace pagein::node {
namespace {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::TestLayer;
using testing::ElementsAre;
using testing::UnorderedElementsAre;

class ImageMountsTest : public testing::Test {
 protected:
  void SetUp() override {
    log::configure(log::Level::error, log::Format::text);
    // Of this thread's own, so that no mount stays behind.
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      GTEST_SKIP() << "needs the right to mount";
    }
    manager_ = std::make_unique<FakeManager>(dir_.path());
    for (int i = 0; i < 2; ++i) {
      tar::TestArchive archive;
      archive.file("file" + std::to_string(i), index::testing::test_text(150'000, i + 1u)).end();
      made_.push_back(make_test_layer(archive.bytes()));
    }
    start();
    for (const TestLayer& layer : made_) ids_.push_back(add(layer)->layer().id());
  }
  void TearDown() override {
    mounts_.reset();
    std::error_code ignored;
    for (const auto& chain : std::filesystem::directory_iterator(images(), ignored)) {
      for (const auto& entry : std::filesystem::directory_iterator(chain.path(), ignored)) {
        static_cast<void>(mount::unmount(entry.path(), mount::UnmountMode::lazy));
      }
    }
  }

  void start() {
    store_ = must(store::LayerStore::open(dir_.path()));
    layers_ = must(Layers::open(context_, *store_, nullptr, dir_.path()));
    ImageMountsOptions options;
    options.root = dir_.path();
    options.load_rest = [this](const auto& pager) { loading_.push_back(pager->layer().id()); };
    mounts_ = std::make_unique<ImageMounts>(context_, *layers_, engine_, fd_store_, options);
  }
  // The daemon goes and comes again.
  enum class Kept { fds, nothing };
  void restart(Kept kept) {
    mounts_.reset();
    layers_.reset();
    store_.reset();
    loading_.clear();
    start();
    std::vector<mount::StoredFd> fds;
    if (kept == Kept::fds) {
      for (const std::string& name : manager_->names()) {
        fds.push_back({name, must(open_file("/dev/null", O_RDWR))});
      }
    }
    must(mounts_->restore(std::move(fds)));
  }
  void reboot() {
    for (const auto& folder : mounted()) must(mount::unmount(folder, mount::UnmountMode::lazy));
    restart(Kept::nothing);
  }

  std::shared_ptr<fetch::LayerPager> add(const TestLayer& layer) {
    return must(
        layers_->add(layer.head, {"oci:/nowhere", layer.index_digest(), layer.index_blob.size()}));
  }
  void complete(size_t i) {
    const auto pager = must(layers_->find(ids_[i]));
    for (size_t span = 0; span < made_[i].index->spans.size(); ++span) {
      must(pager->layer().write_span(span, made_[i].span(span)));
    }
    pager->advance_proof();
    ASSERT_TRUE(pager->layer().complete());
  }
  PinRequest request(const std::string& holder) const {
    PinRequest request;
    request.layers = ids_;
    request.holder = holder;
    request.name = "r.example/app";
    return request;
  }
  std::filesystem::path pin(const std::string& holder) {
    const auto folder = mounts_->pin(request(holder));
    EXPECT_TRUE(folder.ok()) << folder.error().message;
    return folder.ok() ? *folder : std::filesystem::path();
  }
  std::filesystem::path images() const { return dir_.path() / "images"; }
  // Where something is mounted below ours.
  std::vector<std::filesystem::path> mounted() const {
    std::vector<std::filesystem::path> found;
    for (const mount::MountEntry& entry : must(mount::load_mount_table())) {
      if (entry.target.starts_with(images().native())) found.emplace_back(entry.target);
    }
    return found;
  }

  TempDir dir_ = must(TempDir::make("image-mounts-"));
  std::unique_ptr<FakeManager> manager_;
  fetch::Context context_{{.demand_threads = 1, .background_threads = 1}};
  mount::FdStore fd_store_;
  FakeEngine engine_;
  std::unique_ptr<store::LayerStore> store_;
  std::unique_ptr<Layers> layers_;
  std::unique_ptr<ImageMounts> mounts_;
  std::vector<std::string> loading_;
  std::vector<TestLayer> made_;
  std::vector<std::string> ids_;
};

// M1
TEST_F(ImageMountsTest, OneChainIsMountedOnceAndEachHolderKeepsItsFolder) {
  const auto folder = pin("a");
  EXPECT_EQ(pin("a"), folder);
  EXPECT_EQ(pin("b"), folder);
  EXPECT_EQ(engine_.mounts, 1);
  EXPECT_THAT(mounted(), ElementsAre(folder));
  EXPECT_EQ(engine_.last.devices.size(), 2u);
  EXPECT_THAT(loading_, testing::IsSupersetOf(ids_));
  EXPECT_THAT(manager_->names(), testing::SizeIs(1));
  PinRequest other = request("a");
  other.layers.pop_back();
  EXPECT_NE(must(mounts_->pin(other)), folder) << "another chain of the same holder";
  PinRequest above = request("c");
  above.remote_below = true;
  EXPECT_NE(must(mounts_->pin(above)), folder);
}

// M2
TEST_F(ImageMountsTest, TheLastHolderTakesTheMountWithIt) {
  const auto folder = pin("a");
  pin("b");
  mounts_->release("nobody");
  mounts_->release("a");
  EXPECT_THAT(mounted(), ElementsAre(folder));
  mounts_->release("b");
  EXPECT_TRUE(mounted().empty());
  EXPECT_FALSE(std::filesystem::exists(folder));
  EXPECT_TRUE(manager_->names().empty());
  pin("c");
  EXPECT_EQ(mounted().size(), 1u);
}

// M2: files of it are still open.
TEST_F(ImageMountsTest, TheDescriptorStaysUntilTheLastReaderHasGone) {
  const auto folder = pin("a");
  engine_.uses->used = true;
  const auto on_end = engine_.last.on_end;
  mounts_->release("a");
  EXPECT_TRUE(mounted().empty());
  EXPECT_THAT(manager_->names(), testing::SizeIs(1));
  mounts_->drop_ended();
  EXPECT_THAT(manager_->names(), testing::SizeIs(1)) << "nobody said that it ended";
  mounts_->forget_layer(ids_[0]);
  EXPECT_EQ(mounts_->list().size(), 1u) << "a successor needs its record";

  const auto next = pin("b");
  EXPECT_NE(next, folder) << "the old one is in no tree";
  EXPECT_THAT(manager_->names(), testing::SizeIs(2));

  engine_.uses->used = false;
  on_end();
  EXPECT_THAT(manager_->names(), testing::SizeIs(2)) << "not on a serving thread";
  mounts_->drop_ended();
  EXPECT_THAT(manager_->names(), testing::SizeIs(1));
  mounts_->release("b");
  EXPECT_TRUE(manager_->names().empty());
  mounts_->forget_layer(ids_[0]);
  EXPECT_TRUE(mounts_->list().empty());
}

TEST_F(ImageMountsTest, ARestartContinuesWhatIsUnmountedButStillRead) {
  const auto folder = pin("a");
  engine_.uses->used = true;
  mounts_->release("a");
  restart(Kept::fds);
  EXPECT_EQ(engine_.adoptions_unmounted, 1);
  EXPECT_EQ(engine_.mounts, 1);
  EXPECT_TRUE(mounted().empty()) << "nobody holds it";
  EXPECT_THAT(manager_->names(), testing::SizeIs(1));
  EXPECT_EQ(engine_.last.devices.size(), 2u);
  restart(Kept::fds);
  EXPECT_EQ(engine_.adoptions_unmounted, 2);
  engine_.uses->used = false;
  engine_.last.on_end();
  mounts_->drop_ended();
  EXPECT_TRUE(manager_->names().empty());
  restart(Kept::fds);
  EXPECT_EQ(engine_.adoptions_unmounted, 2);
  EXPECT_EQ(pin("a"), folder);
}

TEST_F(ImageMountsTest, WithoutItsDescriptorAnUnmountedOneIsForgotten) {
  pin("a");
  engine_.uses->used = true;
  mounts_->release("a");
  restart(Kept::nothing);
  EXPECT_EQ(engine_.adoptions_unmounted, 0);
  ASSERT_EQ(mounts_->list().size(), 1u);
  EXPECT_TRUE(mounts_->list()[0].record.mounts.empty());
}

// As on a full disk: a restart costs no reader its mount.
TEST_F(ImageMountsTest, ARecordThatCannotBeWrittenAtAStartTakesNothingAway) {
  const auto folder = pin("a");
  const auto chain = folder.parent_path();
  ASSERT_EQ(::mount(chain.c_str(), chain.c_str(), nullptr, MS_BIND | MS_REC, nullptr), 0);
  ASSERT_EQ(::mount(nullptr, chain.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);
  restart(Kept::fds);
  EXPECT_EQ(engine_.adoptions, 1);
  EXPECT_THAT(mounted(), testing::Contains(folder));
  EXPECT_THAT(manager_->names(), testing::SizeIs(1));
  must(mount::unmount(chain, mount::UnmountMode::lazy));
}

// A successor must never take over a mount by a record of other devices: its
// readers would get another layer's bytes.
TEST_F(ImageMountsTest, AMountMadeAnewWithoutARecordKeepsTheRecordedDevices) {
  const auto folder = pin("a");
  complete(0);
  const auto chain = folder.parent_path();
  must(mount::unmount(folder, mount::UnmountMode::lazy));
  // Nothing can be created or replaced in the folder; mount points are there.
  ASSERT_EQ(::mount(chain.c_str(), chain.c_str(), nullptr, MS_BIND, nullptr), 0);
  const auto no_folder = chain / "1";
  ASSERT_EQ(::mount(nullptr, chain.c_str(), nullptr, MS_BIND | MS_REMOUNT | MS_RDONLY, nullptr), 0);
  restart(Kept::nothing);
  EXPECT_EQ(engine_.mounts, 2);
  EXPECT_NE(engine_.last.devices[0].file, nullptr) << "as recorded";
  EXPECT_TRUE(must(mount::is_mount_point(no_folder)));
  must(mount::unmount(no_folder, mount::UnmountMode::lazy));
  must(mount::unmount(chain, mount::UnmountMode::lazy));
  restart(Kept::nothing);
  EXPECT_EQ(engine_.last.devices[0].file, nullptr) << "recorded, and from local data now";
}

// M3
TEST_F(ImageMountsTest, OnceAllIsLocalNewHoldersNeedNoDaemon) {
  complete(0);
  const auto first = pin("a");
  EXPECT_FALSE(engine_.last.devices[0].path.empty()) << "complete: local data";
  EXPECT_NE(engine_.last.devices[1].file, nullptr);
  complete(1);
  const auto second = pin("b");
  EXPECT_NE(second, first);
  EXPECT_TRUE(engine_.last.devices[1].file == nullptr);
  EXPECT_EQ(pin("a"), first) << "M1";
  EXPECT_EQ(pin("c"), second);
  EXPECT_THAT(mounted(), UnorderedElementsAre(first, second));
  mounts_->release("a");
  EXPECT_THAT(mounted(), ElementsAre(second));
  EXPECT_TRUE(manager_->names().empty());
  mounts_->release("b");
  EXPECT_THAT(mounted(), ElementsAre(second));
}

TEST_F(ImageMountsTest, AFailedMountLeavesNothing) {
  engine_.fail = true;
  EXPECT_EQ(mounts_->pin(request("a")).error().code, Code::unsupported);
  EXPECT_TRUE(mounted().empty());
  engine_.fail = false;
  pin("a");
}

TEST_F(ImageMountsTest, AMountThatCannotBeRecordedIsNotGiven) {
  const auto folder = pin("a");
  mounts_->release("a");
  const auto record = folder.parent_path() / "image.json";
  std::filesystem::remove(record);
  std::filesystem::create_directories(record / "in the way");
  EXPECT_FALSE(mounts_->pin(request("b")).ok());
  EXPECT_TRUE(mounted().empty());
  std::filesystem::remove_all(record);
  pin("b");
}

TEST_F(ImageMountsTest, AQuarantinedLayerIsNotMounted) {
  must(must(layers_->find(ids_[1]))->layer().quarantine("it lied"));
  const auto folder = mounts_->pin(request("a"));
  ASSERT_FALSE(folder.ok());
  EXPECT_EQ(folder.error().code, Code::corrupt_input);
}

TEST_F(ImageMountsTest, ARestartContinuesWithTheDescriptorsThatWereKept) {
  const auto folder = pin("a");
  restart(Kept::fds);
  EXPECT_EQ(engine_.adoptions, 1);
  EXPECT_EQ(engine_.mounts, 1);
  EXPECT_EQ(pin("a"), folder);
  EXPECT_EQ(pin("b"), folder);
  EXPECT_THAT(loading_, testing::IsSupersetOf(ids_));
  EXPECT_EQ(manager_->names().size(), 1u);
  mounts_->release("a");
  mounts_->release("b");
  EXPECT_TRUE(mounted().empty());
}

TEST_F(ImageMountsTest, WithoutADescriptorTheMountIsMadeAnew) {
  const auto folder = pin("a");
  restart(Kept::nothing);
  EXPECT_EQ(engine_.adoptions, 0);
  EXPECT_EQ(engine_.mounts, 2);
  EXPECT_THAT(mounted(), ElementsAre(folder)) << "one, not two upon each other";
  EXPECT_EQ(pin("a"), folder);
}

TEST_F(ImageMountsTest, AMountWithoutDaemonNeedsNoDescriptor) {
  complete(0);
  complete(1);
  const auto folder = pin("a");
  restart(Kept::nothing);
  EXPECT_EQ(engine_.adoptions, 1);
  EXPECT_EQ(engine_.mounts, 1);
  EXPECT_EQ(pin("a"), folder);
}

TEST_F(ImageMountsTest, WhereTheDaemonServesAllACompleteImageIsMountedOnce) {
  engine_.kind = mount::EngineKind::fuse;
  complete(0);
  complete(1);
  const auto folder = pin("a");
  EXPECT_EQ(pin("b"), folder) << "it needs the daemon, but no better mount can be made";
  restart(Kept::fds);
  EXPECT_EQ(engine_.adoptions, 1);
  EXPECT_TRUE(engine_.last.devices[0].file == nullptr);
  EXPECT_EQ(pin("a"), folder);
  EXPECT_EQ(engine_.mounts, 1);
}

TEST_F(ImageMountsTest, ADescriptorThatCannotBeContinuedIsGivenBackBeforeTheNextOne) {
  const auto folder = pin("a");
  engine_.fail_adopt = true;
  restart(Kept::fds);
  EXPECT_THAT(mounted(), ElementsAre(folder));
  EXPECT_EQ(manager_->names().size(), 1u) << "only the new one's";
}

TEST_F(ImageMountsTest, AfterARebootTheMountIsThereAgain) {
  const auto folder = pin("a");
  complete(0);
  complete(1);
  reboot();
  EXPECT_EQ(engine_.mounts, 2);
  EXPECT_THAT(mounted(), ElementsAre(folder));
  EXPECT_TRUE(engine_.last.devices[0].file == nullptr) << "from local data now";
  EXPECT_EQ(pin("a"), folder);
}

TEST_F(ImageMountsTest, DescriptorsOfNobodyAreGivenBack) {
  must(fd_store_.put("image-deadbeef-3", 0));
  must(fd_store_.put("something else", 0));
  restart(Kept::fds);
  EXPECT_THAT(manager_->names(), ElementsAre("something else"));
}

TEST_F(ImageMountsTest, DamagedRecordsTakeTheirMountsWithThem) {
  const auto folder = pin("a");
  const auto record = folder.parent_path() / "image.json";
  const std::string good = must(read_file(record));
  std::string other_image = good;
  other_image.replace(other_image.find(ids_[1]), 64, std::string(64, '0'));
  for (const std::string& bad : {std::string("{"), std::string(), other_image}) {
    must(replace_file(record, as_bytes(bad)));
    restart(Kept::fds);
    EXPECT_TRUE(mounted().empty());
    EXPECT_FALSE(std::filesystem::exists(folder.parent_path()));
    EXPECT_TRUE(manager_->names().empty());
    EXPECT_EQ(pin("a"), folder) << "made anew when it is asked for";
    EXPECT_THAT(mounted(), ElementsAre(folder));
  }
}

TEST_F(ImageMountsTest, MountsThatACrashLeftUnrecordedAreTakenAway) {
  const auto folder = pin("a");
  const auto stray = folder.parent_path() / "2";
  std::filesystem::create_directory(stray);
  ASSERT_EQ(::mount("fake-image", stray.c_str(), "tmpfs", 0, "size=4k"), 0);
  restart(Kept::fds);
  EXPECT_THAT(mounted(), ElementsAre(folder));
  EXPECT_FALSE(std::filesystem::exists(stray));
}

TEST_F(ImageMountsTest, ALostLayerTakesItsMountsWithIt) {
  const auto folder = pin("a");
  mounts_.reset();
  std::filesystem::remove_all(dir_.path() / "layers" / ids_[0]);
  restart(Kept::fds);
  EXPECT_TRUE(mounted().empty());
  EXPECT_EQ(mounts_->pin(request("a")).error().code, Code::not_found);
  add(made_[0]);
  EXPECT_EQ(pin("a"), folder);
}

TEST_F(ImageMountsTest, HoldersThatAreGoneAreReleased) {
  pin("manual-1");
  pin("manual-2");
  pin("snapshot-1");
  mounts_->release_others("manual-", {"manual-2"});
  const auto list = mounts_->list();
  ASSERT_EQ(list.size(), 1u);
  ASSERT_EQ(list[0].record.mounts.size(), 1u);
  EXPECT_THAT(list[0].record.mounts[0].holders, ElementsAre("manual-2", "snapshot-1"));
}

TEST_F(ImageMountsTest, ForgettingALayerLeavesWhatIsMounted) {
  const auto folder = pin("a");
  mounts_->forget_layer(ids_[0]);
  EXPECT_EQ(mounts_->list().size(), 1u);
  mounts_->release("a");
  mounts_->forget_layer(std::string(64, '0'));
  EXPECT_EQ(mounts_->list().size(), 1u);
  mounts_->forget_layer(ids_[0]);
  EXPECT_TRUE(mounts_->list().empty());
  EXPECT_FALSE(std::filesystem::exists(folder.parent_path()));
}

// A chain that is forgotten while somebody waits for it must not be mounted
// where nobody finds it again. Threads share this one's mount namespace.
TEST_F(ImageMountsTest, PinningAndForgettingRace) {
  manager_.reset();  // its queue is short
  std::atomic<bool> stop{false};
  std::thread forgetter([&] {
    while (!stop) mounts_->forget_layer(ids_[0]);
  });
  std::vector<std::thread> pinners;
  for (int i = 0; i < 3; ++i) {
    pinners.emplace_back([&, i] {
      const std::string holder = "holder" + std::to_string(i);
      for (int round = 0; round < 40; ++round) {
        const auto folder = mounts_->pin(request(holder));
        EXPECT_TRUE(folder.ok()) << folder.error().message;
        if (!folder.ok()) break;
        EXPECT_TRUE(must(mount::is_mount_point(*folder)));
        mounts_->release(holder);
      }
    });
  }
  for (std::thread& pinner : pinners) pinner.join();
  stop = true;
  forgetter.join();
  EXPECT_TRUE(mounted().empty());
}

}  // namespace
}  // namespace pagein::node
