// Pulls into a real containerd, with its own overlayfs snapshotter: every
// layer the ordinary way.
#include "containerd/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "containerd/labels.h"
#include "containerd/test_containerd.h"
#include "containerd/test_image.h"

namespace pagein::containerd {
namespace {

class Pull : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    if (!TestContainerd::missing().empty()) return;
    dir_ = new TempDir(*TempDir::make("pagein-containerd-"));
    daemon_ = new TestContainerd(dir_->path());
  }
  static void TearDownTestSuite() {
    delete daemon_;
    delete dir_;
  }
  void SetUp() override {
    if (const std::string why = TestContainerd::missing(); !why.empty()) GTEST_SKIP() << why;
    client_ = daemon_->client(stop_.get_token());
    ASSERT_TRUE(client_->version().ok());
    options_.snapshotter = "overlayfs";
  }
  void TearDown() override {
    if (!client_) return;
    client_ = daemon_->client();
    (void)client_->delete_image("example.com/app:1");
  }

  Result<PullPlan> plan(const oci::Descriptor& target) {
    return plan_pull({"example.com/app:1", target, oci::Platform::host(), "example.com", "app"},
                     source_);
  }

  static TempDir* dir_;
  static TestContainerd* daemon_;
  std::stop_source stop_;
  std::unique_ptr<Client> client_;
  FakeSource source_;
  PullOptions options_;
};
TempDir* Pull::dir_ = nullptr;
TestContainerd* Pull::daemon_ = nullptr;

TEST_F(Pull, OrdinaryLayers) {
  const auto parts =
      source_.add_image({{{"a", std::string(3'000'000, 'a')}}, {{"b", "2"}}, {{"a", "changed"}}});
  const auto planned = plan(parts.index);
  ASSERT_TRUE(planned.ok()) << planned.error().message;
  std::vector<LayerProgress> progress;
  options_.on_progress = [&](const LayerProgress& p) { progress.push_back(p); };
  options_.image_labels = {{"mine", "1"}};
  const auto summary = pull_image(*client_, *planned, source_, options_);
  ASSERT_TRUE(summary.ok()) << summary.error().message;
  ASSERT_EQ(summary->layers.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(summary->layers[i].state, LayerState::unpacked);
    EXPECT_EQ(summary->layers[i].fetched, parts.layers[i].size);
  }
  EXPECT_EQ(progress.back().state, LayerState::unpacked);

  const auto image = client_->get_image("example.com/app:1");
  ASSERT_TRUE(image.ok());
  EXPECT_EQ(image->target.digest, parts.index.digest);
  EXPECT_EQ(image->labels, (Labels{{"mine", "1"}}));
  // As containerd's own client labels them.
  const auto config = client_->content_info(parts.config.digest);
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->labels.at("containerd.io/gc.ref.snapshot.overlayfs"),
            planned->chain_ids.back().str());
  EXPECT_EQ(config->labels.at("containerd.io/distribution.source.example.com"), "app");
  const auto layer = client_->content_info(parts.layers[0].digest);
  ASSERT_TRUE(layer.ok());
  EXPECT_EQ(layer->labels.at(kUncompressed), parts.layers[0].digest.str());
  const auto manifest = client_->content_info(parts.manifest.digest);
  EXPECT_EQ(manifest->labels.at("containerd.io/gc.ref.content.l.2"), parts.layers[2].digest.str());
  EXPECT_EQ(*client_->read_content(parts.manifest.digest, 1 << 20),
            source_.blobs_by_digest[parts.manifest.digest]);

  // Again: everything is there.
  const int opened = source_.opened;
  const auto again = pull_image(*client_, *planned, source_, options_);
  ASSERT_TRUE(again.ok()) << again.error().message;
  for (const LayerSummary& summary_of : again->layers) {
    EXPECT_EQ(summary_of.state, LayerState::present);
  }
  EXPECT_EQ(source_.opened, opened);
}

TEST_F(Pull, TheCollectorTakesAllWithTheImage) {
  const auto parts = source_.add_image({{{"gc", "1"}}});
  ASSERT_TRUE(pull_image(*client_, *plan(parts.index), source_, options_).ok());
  ASSERT_TRUE(client_->delete_image("example.com/app:1").ok());
  EXPECT_EQ(client_->content_info(parts.layers[0].digest).error().code, Code::not_found);
  EXPECT_EQ(client_->stat_snapshot("overlayfs", parts.layers[0].digest.str()).error().code,
            Code::not_found);
}

TEST_F(Pull, AFalseDiffIdIsFound) {
  auto parts = source_.add_image({{{"x", "1"}}});
  PullPlan wrong = *plan(parts.index);
  wrong.diff_ids[0] = oci::Digest::of(as_bytes("other"));
  wrong.chain_ids[0] = wrong.diff_ids[0];
  const auto summary = pull_image(*client_, wrong, source_, options_);
  ASSERT_FALSE(summary.ok());
  EXPECT_EQ(summary.error().code, Code::corrupt_input) << summary.error().message;
  EXPECT_EQ(client_->stat_snapshot("overlayfs", wrong.chain_ids[0].str()).error().code,
            Code::not_found);
  EXPECT_EQ(client_->get_image("example.com/app:1").error().code, Code::not_found);
}

TEST_F(Pull, WrongBytesAreRefused) {
  const auto parts = source_.add_image({{{"y", "right"}}});
  const auto planned = plan(parts.index);
  source_.blobs_by_digest[parts.layers[0].digest].back() = 'X';
  const auto summary = pull_image(*client_, *planned, source_, options_);
  ASSERT_FALSE(summary.ok());
  EXPECT_EQ(summary.error().code, Code::corrupt_input) << summary.error().message;
}

TEST_F(Pull, ABlobLongerThanItsDescriptorIsRefused) {
  const auto parts = source_.add_image({{{"z", "right"}}});
  const auto planned = plan(parts.index);
  source_.blobs_by_digest[parts.layers[0].digest] += "more";
  EXPECT_EQ(pull_image(*client_, *planned, source_, options_).error().code, Code::corrupt_input);
}

TEST_F(Pull, AnUploadGoesOnWhereAnEarlierOneEnded) {
  const std::string blob(2'500'000, 'r');
  const oci::Descriptor layer = source_.add(blob, oci::media_type::kOciLayer);
  const UploadRequest request{upload_ref(layer), layer.digest, layer.size, {}, {}};
  auto open = [&](uint64_t) { return source_.open_blob(layer); };
  source_.before_read = [](uint64_t at) {
    return at > 2'200'000 ? Status(Error(Code::unavailable, "gone")) : Status();
  };
  EXPECT_EQ(client_->upload(request, open).error().code, Code::unavailable);
  source_.before_read = {};
  uint64_t resumed_at = 0;
  const auto resumed = client_->upload(request, [&](uint64_t offset) {
    resumed_at = offset;
    source_.blobs_by_digest[layer.digest] = blob.substr(offset);
    return source_.open_blob(layer);
  });
  ASSERT_TRUE(resumed.ok()) << resumed.error().message;
  EXPECT_EQ(*resumed, Uploaded::now);
  EXPECT_EQ(resumed_at, 2u << 20);  // whole pieces
  EXPECT_EQ(*client_->upload(request, open), Uploaded::was_there);
  EXPECT_TRUE(client_->delete_content(layer.digest).ok());
}

TEST_F(Pull, APullGoesOnWithAnEarlierUpload) {
  const auto parts = source_.add_image({{{"resumed", std::string(2'500'000, 'r')}}});
  const oci::Descriptor& layer = parts.layers[0];
  source_.before_read = [](uint64_t at) {
    return at > 2'200'000 ? Status(Error(Code::unavailable, "gone")) : Status();
  };
  EXPECT_FALSE(client_
                   ->upload({upload_ref(layer), layer.digest, layer.size, {}, {}},
                            [&](uint64_t) { return source_.open_blob(layer); })
                   .ok());
  const auto summary = pull_image(*client_, *plan(parts.index), source_, options_);
  ASSERT_TRUE(summary.ok()) << summary.error().message;
  EXPECT_THAT(source_.ranged->offsets, testing::ElementsAre(2u << 20));
  EXPECT_EQ(summary->layers[0].fetched, layer.size - (2u << 20));
}

TEST_F(Pull, ABadEarlierUploadIsReplaced) {
  const std::string blob(2'500'000, 's');
  const oci::Descriptor layer = source_.add(blob, oci::media_type::kOciLayer);
  const UploadRequest request{upload_ref(layer), layer.digest, layer.size, {}, {}};
  source_.blobs_by_digest[layer.digest] = std::string(2'400'000, 'X');
  source_.before_read = [](uint64_t at) {
    return at > 2'200'000 ? Status(Error(Code::unavailable, "gone")) : Status();
  };
  auto open = [&](uint64_t) { return source_.open_blob(layer); };
  EXPECT_FALSE(client_->upload(request, open).ok());
  source_.before_read = {};
  const auto uploaded = client_->upload(request, [&](uint64_t offset) {
    source_.blobs_by_digest[layer.digest] = blob.substr(offset);
    return source_.open_blob(layer);
  });
  ASSERT_TRUE(uploaded.ok()) << uploaded.error().message;
  EXPECT_TRUE(client_->delete_content(layer.digest).ok());
}

TEST_F(Pull, TwoClientsUploadTheSame) {
  const auto parts = source_.add_image({{{"both", std::string(5'000'000, 'b')}}});
  const auto planned = plan(parts.index);
  Result<PullSummary> first = Error(Code::internal, ""), second = first;
  std::thread other([&] {
    const auto client = daemon_->client();
    second = pull_image(*client, *planned, source_, options_);
  });
  first = pull_image(*client_, *planned, source_, options_);
  other.join();
  EXPECT_TRUE(first.ok()) << first.error().message;
  EXPECT_TRUE(second.ok()) << second.error().message;
}

TEST_F(Pull, StoppingCleansUp) {
  const auto parts = source_.add_image({{{"stop", std::string(4'000'000, 's')}}});
  const auto planned = plan(parts.index);
  source_.before_read = [&](uint64_t at) {
    if (at > 2'000'000) stop_.request_stop();
    return Status();
  };
  const auto summary = pull_image(*client_, *planned, source_, options_);
  ASSERT_FALSE(summary.ok());
  EXPECT_EQ(summary.error().code, Code::cancelled) << summary.error().message;
  const auto fresh = daemon_->client();
  EXPECT_EQ(fresh->abort_upload(upload_ref(parts.layers[0])).error().code, Code::not_found);
  EXPECT_EQ(fresh->get_image("example.com/app:1").error().code, Code::not_found);
}

TEST_F(Pull, AnImageWithoutLayers) {
  const auto parts = source_.add_image({});
  const auto summary = pull_image(*client_, *plan(parts.index), source_, options_);
  ASSERT_TRUE(summary.ok()) << summary.error().message;
  EXPECT_TRUE(summary->chain_id.empty());
}

TEST_F(Pull, AnotherTagMovesTheName) {
  const auto one = source_.add_image({{{"one", "1"}}});
  const auto two = source_.add_image({{{"two", "2"}}});
  ASSERT_TRUE(pull_image(*client_, *plan(one.index), source_, options_).ok());
  ASSERT_TRUE(pull_image(*client_, *plan(two.index), source_, options_).ok());
  EXPECT_EQ(client_->get_image("example.com/app:1")->target.digest, two.index.digest);
}

TEST(ClientWithoutContainerd, SaysSo) {
  const auto client = Client::open({.socket = "/nonexistent/containerd.sock"});
  const auto version = client->version();
  ASSERT_FALSE(version.ok());
  EXPECT_EQ(version.error().code, Code::unavailable);
  EXPECT_NE(version.error().message.find("/nonexistent/containerd.sock"), std::string::npos);
}

}  // namespace
}  // namespace pagein::containerd
