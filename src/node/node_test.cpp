// The node as its callers see it, over a registry in memory and an engine that
// mounts nothing of the kernel's.
#include "node/node.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include "fetch/test_pack.h"
#include "index/test_layer.h"
#include "node/fake_engine.h"
#include "node/fake_images.h"
#include "oci/annotations.h"
#include "oci/image_config.h"

namespace pagein::node {
namespace {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::TestLayer;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr const char* kRef = "r.example/team/app:1";
constexpr std::chrono::seconds kPatience(20);

// What other threads bring about soon.
bool soon(const std::function<bool()>& holds) {
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (std::chrono::steady_clock::now() < deadline) {
    if (holds()) return true;
    std::this_thread::yield();
  }
  return false;
}

class NodeTest : public testing::Test {
 protected:
  void SetUp() override {
    log::configure(log::Level::error, log::Format::text);
    for (uint32_t i = 1; i <= 3; ++i) {
      tar::TestArchive archive;
      archive.file("file" + std::to_string(i), index::testing::test_text(100'000, i)).end();
      made_.push_back(make_test_layer(archive.bytes()));
    }
    images_->tag = put_image({&made_[0], &made_[1]});
    manifest_ = images_->tag.digest;
    config_.root = dir_.path() / "root";
    config_.trust.repositories = {"r.example/team/*"};
    config_.fetch.background = false;
    start();
  }

  void start() {
    NodeParts parts;
    parts.make_engine = [this](mount::FuseServer&) {
      auto engine = std::make_unique<FakeEngine>();
      engine_ = engine.get();
      engine->fail = mounting_fails_.load();
      engine->fail_code = Code::exhausted;
      return engine;
    };
    parts.open_source = [this](const registry::Location& location, const auto&) {
      opened_.push_back(location.str());
      return Result<std::shared_ptr<registry::ImageSource>>(images_);
    };
    parts.now = [this] { return net::Clock::time_point() + now_.load(); };
    parts.interval = std::chrono::milliseconds(10);
    node_ = must(Node::start(config_, {}, std::move(parts)));
  }

  oci::Descriptor put_image(const std::vector<const TestLayer*>& layers,
                            const fetch::testing::TestPack* pack = nullptr) {
    std::string list;
    oci::Manifest manifest;
    if (pack != nullptr) {
      startup::set_pack_location(&manifest, pack->location);
      images_->source->add_blob(pack->blob);
    }
    for (const TestLayer* layer : layers) {
      list += (list.empty() ? "\"" : ",\"") + layer->index->diff_id.str() + "\"";
      oci::Descriptor descriptor;
      descriptor.media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
      descriptor.digest = oci::Digest::of(layer->blob);
      descriptor.size = layer->blob.size();
      index::set_index_location(&descriptor, {layer->index_digest(), layer->index_blob.size(),
                                              layer->head.size(), oci::Digest::of(layer->head)});
      manifest.layers.push_back(std::move(descriptor));
      images_->source->add_blob(layer->blob);
      images_->source->add_blob(layer->index_blob);
    }
    manifest.config = images_->put(
        "{\"architecture\":\"" + oci::Platform::host().architecture +
            "\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" + list + "]}}",
        "application/vnd.oci.image.config.v1+json");
    return images_->put(oci::serialize(manifest), kManifestType);
  }

  // What a client says of layer i of the image of the first two layers.
  snapshotter::LayerRequest request(size_t i) const {
    const std::vector<oci::Digest> diff_ids = {made_[0].index->diff_id, made_[1].index->diff_id};
    snapshotter::LayerRequest request;
    request.snapshot_ref = oci::chain_ids(diff_ids)[i].str();
    request.labels = {
        {"containerd.io/snapshot/cri.image-ref", kRef},
        {"containerd.io/snapshot/cri.manifest-digest", manifest_.str()},
        {"containerd.io/snapshot/cri.layer-digest", oci::Digest::of(made_[i].blob).str()},
        {std::string(oci::annotation::kIndexHeadDigest), oci::Digest::of(made_[i].head).str()}};
    return request;
  }
  // The layer's name, or "" and the reason in declines().
  std::string prepare(const snapshotter::LayerRequest& request) {
    return must(node_->prepare_layer(request)).value_or("");
  }
  std::string id(size_t i) const { return store::LayerStore::id_of(made_[i].head); }
  std::string last_reason() const {
    const auto declines = node_->declines();
    return declines.empty() ? "" : declines.back().reason;
  }

  // The same two layers, with a pack of the first span of each.
  void put_image_with_pack() {
    pack_ = fetch::testing::make_test_pack(
        {{.layer = &made_[0], .first_span = 0}, {.layer = &made_[1], .first_span = 0}});
    images_->tag = put_image({&made_[0], &made_[1]}, &pack_);
    manifest_ = images_->tag.digest;
  }
  void hold_pack() {
    images_->source->set_script([digest = pack_.location.digest](size_t, const auto& read) {
      return fetch::testing::Answer{.hold = read.digest == digest};
    });
  }
  size_t pack_reads() const { return images_->source->reads_of(pack_.location.digest); }
  bool pack_ended() const {
    const auto packs = node_->startup_packs();
    return !packs.empty() && packs.back().progress.state != fetch::StartupLoader::State::loading;
  }

  TempDir dir_ = must(TempDir::make("node-"));
  Config config_;
  std::vector<TestLayer> made_;
  std::shared_ptr<FakeImages> images_ = std::make_shared<FakeImages>();
  oci::Digest manifest_;
  fetch::testing::TestPack pack_;
  std::vector<std::string> opened_;  // locations asked, in order
  std::atomic<std::chrono::seconds> now_{std::chrono::seconds(1000)};
  std::atomic<bool> mounting_fails_{false};
  FakeEngine* engine_ = nullptr;
  std::unique_ptr<Node> node_;
};

TEST_F(NodeTest, ServesATrustedImagesLayersFromOneAnswer) {
  EXPECT_EQ(prepare(request(0)), id(0));
  EXPECT_EQ(prepare(request(1)), id(1));
  EXPECT_EQ(images_->resolves, 1) << "one look at the registry for all layers";
  EXPECT_THAT(opened_, ElementsAre("r.example/team/app:1"));
  EXPECT_THAT(node_->declines(), IsEmpty());
}

TEST_F(NodeTest, TheFirstPrepareLoadsThePackOnce) {
  put_image_with_pack();
  EXPECT_EQ(prepare(request(0)), id(0));
  ASSERT_TRUE(soon([&] { return pack_ended(); }));
  const auto packs = node_->startup_packs();
  ASSERT_THAT(packs, SizeIs(1));
  EXPECT_EQ(packs[0].progress.state, fetch::StartupLoader::State::done) << packs[0].progress.error;
  EXPECT_EQ(packs[0].image, kRef);
  EXPECT_EQ(packs[0].progress.spans, 2u);
  for (const size_t i : {0, 1}) {
    EXPECT_TRUE(must(node_->layers().find(id(i)))->layer().presence().test(0));
  }
  EXPECT_EQ(prepare(request(1)), id(1));
  now_ = std::chrono::hours(1);  // asked anew
  EXPECT_EQ(prepare(request(1)), id(1));
  EXPECT_EQ(images_->resolves, 2);
  EXPECT_EQ(pack_reads(), 1u);
}

TEST_F(NodeTest, SwitchedOffItIsNotLoaded) {
  node_.reset();
  config_.fetch.startup_pack = false;
  start();
  put_image_with_pack();
  EXPECT_EQ(prepare(request(0)), id(0));
  EXPECT_THAT(node_->startup_packs(), IsEmpty());
  EXPECT_EQ(pack_reads(), 0u);
}

TEST_F(NodeTest, AStopAndARemovalCallItOff) {
  put_image_with_pack();
  hold_pack();
  EXPECT_EQ(prepare(request(0)), id(0));
  images_->source->wait_for_reads(1);
  node_->remove_layer(id(0), "a snapshot");
  ASSERT_TRUE(pack_ended());
  EXPECT_EQ(node_->startup_packs().back().progress.state, fetch::StartupLoader::State::cancelled);
  EXPECT_TRUE(soon([&] { return !node_->layers().find(id(0)).ok(); })) << "nobody holds it";

  EXPECT_EQ(prepare(request(1)), id(1));
  EXPECT_TRUE(soon([&] { return pack_reads() == 2; }));
  node_->stop();
  EXPECT_TRUE(pack_ended());
  images_->source->wait_idle();
  images_->source->set_script(nullptr);
}

TEST_F(NodeTest, AnUntrustedRepositoryIsNotEvenAsked) {
  auto untrusted = request(0);
  for (const char* ref : {"r.example/other/app:1", "r.example/teamwork/app:1", "r.example/team:1",
                          "evil.example/r.example/team/app:1"}) {
    untrusted.labels["containerd.io/snapshot/cri.image-ref"] = ref;
    EXPECT_EQ(prepare(untrusted), "") << ref;
    EXPECT_THAT(last_reason(), HasSubstr("trust.repositories"));
  }
  EXPECT_THAT(opened_, IsEmpty());
  EXPECT_THAT(node_->layers().store().list(), IsEmpty());
}

TEST_F(NodeTest, WhatThePullDoesNotSayIsDeclinedWithoutAsking) {
  for (const char* key :
       {"containerd.io/snapshot/cri.image-ref", "containerd.io/snapshot/cri.manifest-digest",
        "containerd.io/snapshot/cri.layer-digest"}) {
    for (const char* value : {"", "sha256:zz", "UPPER case"}) {
      auto bad = request(0);
      bad.labels[key] = value;
      EXPECT_EQ(prepare(bad), "") << key << "=" << value;
    }
  }
  auto plain = request(0);
  plain.labels.erase(std::string(oci::annotation::kIndexHeadDigest));
  EXPECT_EQ(prepare(plain), "");
  EXPECT_THAT(last_reason(), HasSubstr("pagein convert"));
  EXPECT_THAT(opened_, IsEmpty());
}

// Labels can be forged by a manifest's annotations.
TEST_F(NodeTest, LabelsMustAgreeWithWhatTheNameLeadsTo) {
  auto forged = request(0);
  forged.labels["containerd.io/snapshot/cri.manifest-digest"] = put_image({&made_[2]}).digest.str();
  EXPECT_EQ(prepare(forged), "");
  EXPECT_THAT(last_reason(), HasSubstr("the tag may have moved"));

  forged = request(0);
  forged.labels["containerd.io/snapshot/cri.layer-digest"] = oci::Digest::of(made_[2].blob).str();
  EXPECT_EQ(prepare(forged), "");
  EXPECT_THAT(last_reason(), HasSubstr("does not hold this layer"));

  forged = request(0);
  forged.snapshot_ref = request(1).snapshot_ref;  // the name of another chain
  EXPECT_EQ(prepare(forged), "");
  EXPECT_EQ(prepare(request(0)), id(0)) << "the forged ones change nothing";
}

TEST_F(NodeTest, ALayerWithAnotherLayersIndexIsDeclinedAndTheOthersAreServed) {
  TestLayer mixed = made_[1];
  mixed.index_blob = made_[2].index_blob;
  mixed.head = made_[2].head;
  images_->tag = put_image({&made_[0], &mixed});
  manifest_ = images_->tag.digest;
  EXPECT_EQ(prepare(request(0)), id(0));
  EXPECT_EQ(prepare(request(1)), "");
  EXPECT_THAT(last_reason(), HasSubstr("one of another layer"));
}

TEST_F(NodeTest, AQuarantinedLayerIsDeclined) {
  must(must(node_->layers().add(made_[1].head, {"oci:/nowhere", made_[1].index_digest(),
                                                made_[1].index_blob.size()}))
           ->layer()
           .quarantine("it lied"));
  EXPECT_EQ(prepare(request(0)), id(0));
  EXPECT_EQ(prepare(request(1)), "");
  EXPECT_THAT(last_reason(), HasSubstr("it lied"));
}

TEST_F(NodeTest, DeclinesAreKeptOncePerLayerNewestLast) {
  auto first = request(0);
  first.labels.erase(std::string(oci::annotation::kIndexHeadDigest));
  auto second = request(1);
  second.labels.erase(std::string(oci::annotation::kIndexHeadDigest));
  for (const auto& declined : {first, second, first}) EXPECT_EQ(prepare(declined), "");
  const auto declines = node_->declines();
  ASSERT_THAT(declines, SizeIs(2));
  EXPECT_EQ(declines[0].layer, oci::Digest::of(made_[1].blob).str());
  EXPECT_EQ(declines[1].layer, oci::Digest::of(made_[0].blob).str());
  EXPECT_EQ(declines[1].image, kRef);
  // Without a digest, the chain tells which one it was; the list has an end.
  for (int i = 0; i < 1200; ++i) {
    snapshotter::LayerRequest nameless;
    nameless.snapshot_ref = "chain" + std::to_string(i);
    EXPECT_EQ(prepare(nameless), "");
  }
  ASSERT_THAT(node_->declines(), SizeIs(1000));
  EXPECT_EQ(node_->declines().back().layer, "chain1199");
}

TEST_F(NodeTest, AnAnswerIsUsedForAWhile) {
  EXPECT_EQ(prepare(request(0)), id(0));
  now_ = now_.load() + std::chrono::minutes(9);
  EXPECT_EQ(prepare(request(1)), id(1));
  EXPECT_EQ(images_->resolves, 1);
  now_ = now_.load() + std::chrono::minutes(2);
  EXPECT_EQ(prepare(request(1)), id(1));
  EXPECT_EQ(images_->resolves, 2);
}

TEST_F(NodeTest, TroubleWithTheRegistryIsNotRememberedForLong) {
  images_->broken = Error(Code::unavailable, "the registry is down");
  EXPECT_EQ(prepare(request(0)), "");
  EXPECT_EQ(last_reason(), "the registry is down");
  EXPECT_EQ(prepare(request(1)), "");
  EXPECT_EQ(images_->resolves, 1) << "the image's other layers do not wait for it too";
  images_->broken.reset();
  now_ = now_.load() + std::chrono::seconds(6);
  EXPECT_EQ(prepare(request(0)), id(0));
  EXPECT_EQ(prepare(request(1)), id(1));
}

TEST_F(NodeTest, ARemovedLayerIsGoneAndCanComeBack) {
  EXPECT_EQ(prepare(request(0)), id(0));
  node_->remove_layer(id(0), "snapshot");
  EXPECT_THAT(node_->layers().store().list(), ElementsAre(id(1)));
  node_->remove_layer(id(0), "again");
  EXPECT_EQ(prepare(request(0)), id(0));
  EXPECT_THAT(node_->layers().store().list(), SizeIs(2));
}

TEST_F(NodeTest, ALayerThatIsHeldIsRemovedLater) {
  EXPECT_EQ(prepare(request(0)), id(0));
  auto held = must(node_->layers().find(id(0)));
  node_->remove_layer(id(0), "snapshot");
  EXPECT_THAT(node_->layers().store().list(), SizeIs(2));
  held.reset();
  EXPECT_TRUE(soon([&] { return node_->layers().store().list().size() == 1; }));
}

TEST_F(NodeTest, ALayerThatIsAskedForAgainIsNotRemoved) {
  EXPECT_EQ(prepare(request(0)), id(0));
  auto held = must(node_->layers().find(id(0)));
  node_->remove_layer(id(0), "snapshot");
  EXPECT_EQ(prepare(request(0)), id(0));
  held.reset();
  // Another one, put off later, goes; by then this one would have gone too.
  auto other = must(node_->layers().find(id(1)));
  node_->remove_layer(id(1), "snapshot");
  other.reset();
  EXPECT_TRUE(soon([&] { return node_->layers().store().list().size() == 1; }));
  EXPECT_THAT(node_->layers().store().list(), ElementsAre(id(0)));
}

// With the right to mount: the tree is a tmpfs, what shows it a bind mount.
class NodeMountTest : public NodeTest {
 protected:
  void SetUp() override {
    // Of this thread's own (and those it starts), so that no mount stays behind.
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
      GTEST_SKIP() << "needs the right to mount";
    }
    NodeTest::SetUp();
    must(make_dirs(point_));
  }
  void TearDown() override {
    node_.reset();
    unmount_all();
  }
  void unmount_all() {
    const auto entries = must(mount::load_mount_table());
    for (auto entry = entries.rbegin(); entry != entries.rend(); ++entry) {
      if (entry->target.starts_with(dir_.path().native())) {
        must(mount::unmount(entry->target, mount::UnmountMode::lazy));
      }
    }
  }
  enum class Mounting { works, fails };
  void reboot(Mounting mounting = Mounting::works) {
    node_.reset();
    unmount_all();
    mounting_fails_ = mounting == Mounting::fails;
    start();
  }
  // A crash takes a layer from the store.
  void lose_layer(size_t i) {
    must(replace_file(config_.root / "layers" / id(i) / "state.json", as_bytes("damaged")));
  }
  bool shown() const { return must(mount::is_mount_point(point_)); }
  size_t records() const { return node_->manual_mounts().size(); }

  const std::filesystem::path point_ = dir_.path() / "point";
};

TEST_F(NodeMountTest, AnImageMountedByHandComesBackAfterAReboot) {
  must(node_->mount_image(kRef, point_));
  EXPECT_TRUE(shown());
  EXPECT_EQ(node_->mount_image(kRef, point_).error().code, Code::already_exists);
  reboot();
  EXPECT_TRUE(shown());
  EXPECT_EQ(records(), 1u);
  must(node_->unmount_image(point_));
  EXPECT_FALSE(shown());
  EXPECT_EQ(records(), 0u);
  EXPECT_EQ(node_->unmount_image(point_).error().code, Code::not_found);
  reboot();
  EXPECT_FALSE(shown());
}

TEST_F(NodeMountTest, APassingErrorAtTheStartDelaysIt) {
  must(node_->mount_image(kRef, point_));
  reboot(Mounting::fails);
  EXPECT_FALSE(shown());
  EXPECT_EQ(records(), 1u) << "not forgotten";
  node_->finish_reattach({});
  EXPECT_THAT(node_->layers().store().list(), SizeIs(2)) << "nor are its layers";
  EXPECT_EQ(node_->mount_image(kRef, point_).error().code, Code::already_exists);
  // Also not by a second start.
  reboot(Mounting::fails);
  EXPECT_EQ(records(), 1u);
  engine_->fail = false;
  EXPECT_TRUE(soon([&] { return shown(); }));
  EXPECT_EQ(records(), 1u);
}

TEST_F(NodeMountTest, OneThatWaitsCanBeUnmounted) {
  must(node_->mount_image(kRef, point_));
  reboot(Mounting::fails);
  must(node_->unmount_image(point_));
  EXPECT_EQ(records(), 0u);
  engine_->fail = false;
  must(node_->mount_image(kRef, point_));
  EXPECT_TRUE(shown());
}

TEST_F(NodeMountTest, ALostLayerIsMadeAnewOnceTheRegistryAnswers) {
  must(node_->mount_image(kRef, point_));
  node_->stop();
  lose_layer(1);
  images_->broken = Error(Code::unavailable, "the registry is down");
  reboot();
  EXPECT_FALSE(shown());
  EXPECT_EQ(records(), 1u);
  const int asked = images_->resolves;
  EXPECT_TRUE(soon([&] { return images_->resolves > asked; })) << "it is tried again";
  EXPECT_EQ(records(), 1u);
  node_->stop();
  images_->broken.reset();
  reboot();
  EXPECT_TRUE(soon([&] { return shown(); }));
}

TEST_F(NodeMountTest, OneWhoseNameIsAnotherImageNowIsForgotten) {
  must(node_->mount_image(kRef, point_));
  node_->stop();
  lose_layer(1);
  images_->tag = put_image({&made_[0], &made_[2]});
  reboot();
  EXPECT_TRUE(soon([&] { return records() == 0; }));
  EXPECT_FALSE(shown());
}

TEST_F(NodeMountTest, OneWithAQuarantinedLayerIsForgotten) {
  must(node_->mount_image(kRef, point_));
  must(must(node_->layers().find(id(1)))->layer().quarantine("it lied"));
  reboot();
  EXPECT_EQ(records(), 0u);
  EXPECT_FALSE(shown());
}

TEST_F(NodeMountTest, DamagedRecordsAreRemoved) {
  must(node_->mount_image(kRef, point_));
  const auto folder = config_.root / "manual";
  const auto file = std::filesystem::directory_iterator(folder)->path();
  const std::string good = must(read_file(file));
  must(replace_file(folder / "manual-0123456789abcdef.json", as_bytes(good)));
  reboot();
  EXPECT_TRUE(shown());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 1)
      << "a record under another folder's name";
  must(replace_file(file, as_bytes("{\"version\": 1}")));
  reboot();
  EXPECT_FALSE(shown());
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder), {}), 0);
  engine_->last = {};  // has the layers as devices
  node_->finish_reattach({});
  EXPECT_THAT(node_->layers().store().list(), IsEmpty()) << "nothing refers to them";
}

TEST_F(NodeMountTest, ARecordingIsAMountOfItsOwn) {
  must(node_->mount_image(kRef, point_));
  const auto start = must(node_->start_recording(kRef));
  EXPECT_TRUE(must(mount::is_mount_point(start.tree)));
  EXPECT_EQ(engine_->mounts, 2);
  for (const auto& device : engine_->last.devices) EXPECT_NE(device.file, nullptr);
  const auto recorder = must(node_->recording(start.id));
  EXPECT_EQ(recorder->count(), 0u);
  EXPECT_EQ(start.image->manifest_digest, manifest_);
  must(node_->end_recording(start.id));
  EXPECT_FALSE(std::filesystem::exists(start.tree));
  EXPECT_EQ(node_->recording(start.id).error().code, Code::not_found);
  EXPECT_EQ(node_->end_recording(start.id).error().code, Code::not_found);
  EXPECT_TRUE(shown());
}

TEST_F(NodeMountTest, ARecordingThatNobodyAsksForEnds) {
  const auto start = must(node_->start_recording(kRef));
  now_ = now_.load() + std::chrono::seconds(50);
  ASSERT_TRUE(node_->recording(start.id).ok());
  now_ = now_.load() + std::chrono::seconds(50);
  ASSERT_TRUE(node_->recording(start.id).ok());
  now_ = now_.load() + std::chrono::seconds(70);
  EXPECT_TRUE(soon([&] { return !std::filesystem::exists(start.tree); }));
  EXPECT_FALSE(node_->recording(start.id).ok());
}

TEST_F(NodeMountTest, ARecordingDoesNotOutliveTheDaemon) {
  const auto start = must(node_->start_recording(kRef));
  node_.reset();
  EXPECT_TRUE(must(mount::is_mount_point(start.tree)));
  this->start();
  EXPECT_FALSE(std::filesystem::exists(start.tree.parent_path()));
  EXPECT_TRUE(node_->images().empty());
}

TEST_F(NodeMountTest, AnUnmountCallsAStartupPackOff) {
  put_image_with_pack();
  hold_pack();
  must(node_->mount_image(kRef, point_));
  EXPECT_FALSE(pack_ended());
  must(node_->unmount_image(point_));
  EXPECT_TRUE(pack_ended());
  images_->source->wait_idle();
  images_->source->set_script(nullptr);
}

}  // namespace
}  // namespace pagein::node
