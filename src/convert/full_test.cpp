// Full mode from one OCI layout to another.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "convert/check.h"
#include "convert/convert.h"
#include "index/test_layer.h"
#include "oci/media_types.h"

namespace pagein::convert {
namespace {

namespace media = oci::media_type;
using codec::Encoding;
using index::testing::must;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::shared_ptr<registry::ImageDestination> destination(const std::filesystem::path& dir,
                                                        const std::string& tag) {
  return must(registry::open_destination(
      must(registry::parse_location("oci:" + dir.string() + ":" + tag)), nullptr));
}

class Silent final : public ConvertObserver {
 public:
  void on_layers(const std::vector<oci::Descriptor>&) override {}
  void on_progress(size_t, uint64_t) override {}
  void on_layer_done(size_t, const std::string&) override {}
};

struct TestImage {
  void add(const Bytes& tar, const Bytes& blob, std::string_view type) {
    tars.push_back(tar);
    blobs.push_back(blob);
    types.emplace_back(type);
  }
  void add(const std::string& tar) {
    const Bytes bytes(tar.begin(), tar.end());
    add(bytes, index::testing::gzip(bytes, 6), media::kDockerLayerGzip);
  }
  void write(const std::filesystem::path& dir) const {
    const auto to = destination(dir, "base");
    std::string config =
        R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[)";
    oci::Manifest manifest;
    manifest.media_type = media::kDockerManifest;
    for (size_t i = 0; i < blobs.size(); ++i) {
      config += (i == 0 ? "\"" : ",\"") + oci::Digest::of(tars[i]).str() + "\"";
      manifest.layers.push_back(must(registry::put_blob(*to, as_text(blobs[i]), types[i])));
    }
    config += "]}}";
    manifest.config = must(registry::put_blob(*to, config, media::kDockerConfig));
    must(to->put_manifest(oci::serialize(manifest), media::kDockerManifest, "base"));
  }
  std::vector<Bytes> tars;
  std::vector<Bytes> blobs;
  std::vector<std::string> types;
};

class FullMode : public ::testing::Test {
 protected:
  std::filesystem::path base() const { return dir_.path() / "base"; }
  std::filesystem::path result() const { return dir_.path() / "result"; }

  Result<std::vector<ConvertReport>> convert(const FullOptions& options = {}) {
    const auto source = destination(base(), "base")->as_source();
    const auto gzip = destination(result(), "a");
    const auto zstd = destination(result(), "z");
    Silent silent;
    return convert_to_full(*source, {{Encoding::gzip, gzip.get()}, {Encoding::zstd, zstd.get()}},
                           options, silent);
  }
  std::vector<std::string> differences(const std::string& tag) {
    const auto from = destination(base(), "base")->as_source();
    const auto fast = destination(result(), tag)->as_source();
    return must(check_image(*from, *fast, {})).differences;
  }
  oci::Manifest manifest(const ConvertReport& report) {
    const auto file = result() / "blobs/sha256" / report.platforms[0].manifest.hex();
    return must(oci::parse_manifest(as_bytes(must(read_file(file)))));
  }

  TempDir dir_ = must(TempDir::make("full_test"));
};

TEST_F(FullMode, MakesBothImagesOfTheSameConfig) {
  TestImage image;
  image.add(index::testing::sample_tar(1));
  image.add(index::testing::sample_tar(2));
  image.write(base());
  const auto reports = must(convert());
  ASSERT_EQ(reports.size(), 2U);
  EXPECT_TRUE(differences("a").empty());
  EXPECT_TRUE(differences("z").empty());
  const oci::Manifest gzip = manifest(reports[0]);
  const oci::Manifest zstd = manifest(reports[1]);
  EXPECT_EQ(gzip.config, zstd.config);
  EXPECT_EQ(gzip.config.media_type, media::kOciConfig);
  for (const oci::Descriptor& layer : gzip.layers)
    EXPECT_EQ(layer.media_type, media::kOciLayerGzip);
  for (const oci::Descriptor& layer : zstd.layers)
    EXPECT_EQ(layer.media_type, media::kOciLayerZstd);
  EXPECT_EQ(gzip.layers[1].annotation("io.pagein.layer.base"),
            oci::Digest::of(image.blobs[1]).str());
  EXPECT_THAT(std::string(zstd.layers[0].annotation("io.pagein.index.settings")),
              HasSubstr("chunk=262144"));
}

TEST_F(FullMode, WhatIsNoReadableTarStaysAsItIs) {
  TestImage image;
  image.add(index::testing::sample_tar(1));
  tar::TestArchive odd;
  odd.header({.name = "odd", .type = 'Q'}).end();
  image.add(odd.bytes());
  const Bytes other = {'x', 'y'};
  image.add(other, other, "application/vnd.example.other");
  image.write(base());
  const auto reports = must(convert());
  for (size_t t = 0; t < 2; ++t) {
    std::vector<LayerOutcome> outcomes;
    for (const LayerReport& layer : reports[t].layers) outcomes.push_back(layer.outcome);
    EXPECT_THAT(outcomes,
                ElementsAre(LayerOutcome::indexed, LayerOutcome::left, LayerOutcome::left));
    const oci::Manifest made = manifest(reports[t]);
    EXPECT_EQ(made.layers[1].digest, oci::Digest::of(image.blobs[1]));
    EXPECT_EQ(made.layers[1].media_type, media::kOciLayerGzip);
    EXPECT_TRUE(made.layers[1].annotations.empty());
    EXPECT_EQ(made.layers[2].media_type, "application/vnd.example.other");
  }
}

TEST_F(FullMode, AFalseDiffIdPublishesNothing) {
  TestImage image;
  image.add(index::testing::sample_tar(1));
  image.tars[0] = {'n', 'o'};
  image.write(base());
  const auto reports = convert();
  ASSERT_FALSE(reports.ok());
  EXPECT_EQ(reports.error().code, Code::corrupt_input);
  EXPECT_FALSE(destination(result(), "a")->as_source()->resolve("a").ok());
  EXPECT_FALSE(destination(result(), "z")->as_source()->resolve("z").ok());
}

TEST_F(FullMode, TheCacheCountsOnlyWhereTheBlobIs) {
  TestImage image;
  image.add(index::testing::sample_tar(1));
  image.write(base());
  FullOptions options;
  options.cache = dir_.path() / "cache";
  const auto first = must(convert(options));
  const auto second = must(convert(options));
  EXPECT_EQ(first[1].layers[0].outcome, LayerOutcome::indexed);
  EXPECT_EQ(second[1].layers[0].outcome, LayerOutcome::reused);
  EXPECT_EQ(first[1].accelerated.digest, second[1].accelerated.digest);
  EXPECT_EQ(first[1].layers[0].spans, second[1].layers[0].spans);

  std::filesystem::remove(result() / "blobs/sha256" / second[1].layers[0].published.digest.hex());
  const auto third = must(convert(options));
  EXPECT_EQ(third[0].layers[0].outcome, LayerOutcome::indexed);
  EXPECT_TRUE(differences("z").empty());

  // Other settings, other layers.
  options.chunk = 64 << 10;
  const auto finer = must(convert(options));
  EXPECT_EQ(finer[0].layers[0].outcome, LayerOutcome::indexed);
  EXPECT_GT(finer[0].layers[0].spans, first[0].layers[0].spans);
}

TEST_F(FullMode, CheckFindsAnotherTar) {
  TestImage image;
  image.add(index::testing::sample_tar(1));
  image.write(base());
  must(convert());
  TestImage other;
  other.add(index::testing::sample_tar(2));
  std::filesystem::remove_all(base());
  other.write(base());
  EXPECT_FALSE(differences("a").empty());
  EXPECT_FALSE(differences("z").empty());
}

}  // namespace
}  // namespace pagein::convert
