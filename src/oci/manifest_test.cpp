#include "oci/manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/annotations.h"
#include "oci/image_config.h"
#include "oci/media_types.h"

namespace pagein::oci {
namespace {

using ::testing::HasSubstr;

const std::string kA = "sha256:" + std::string(64, 'a');
const std::string kB = "sha256:" + std::string(64, 'b');

std::string descriptor(const std::string& type, const std::string& digest,
                       const std::string& extra = "") {
  return R"({"mediaType":")" + type + R"(","digest":")" + digest + R"(","size":7)" + extra + "}";
}

std::string docker_manifest() {
  return R"({"schemaVersion":2,"mediaType":")" + std::string(media_type::kDockerManifest) +
         R"(","config":)" + descriptor(std::string(media_type::kDockerConfig), kA) +
         R"(,"layers":[)" + descriptor(std::string(media_type::kDockerLayerGzip), kB) + "]}";
}

TEST(Manifest, DockerAndOci) {
  auto manifest = parse_manifest(as_bytes(docker_manifest()));
  ASSERT_TRUE(manifest.ok()) << manifest.error().message;
  EXPECT_EQ(manifest->media_type, media_type::kDockerManifest);
  EXPECT_EQ(manifest->config.digest.str(), kA);
  ASSERT_EQ(manifest->layers.size(), 1u);
  EXPECT_EQ(manifest->layers[0].size, 7u);
  EXPECT_EQ(to_oci_media_type(manifest->layers[0].media_type), media_type::kOciLayerGzip);
  EXPECT_EQ(*detect_manifest_type(as_bytes(docker_manifest())), media_type::kDockerManifest);
  const std::string bare =
      R"({"schemaVersion":2,"config":)" + descriptor("x", kA) + R"(,"layers":null})";
  EXPECT_EQ(parse_manifest(as_bytes(bare))->media_type, media_type::kOciManifest);
}

TEST(Manifest, SerialisationIsDeterministicAndReadsBack) {
  Manifest manifest;
  manifest.artifact_type = std::string(media_type::kLayerIndexArtifact);
  manifest.config = empty_descriptor();
  Descriptor layer;
  layer.media_type = std::string(media_type::kLayerIndex);
  layer.digest = *Digest::parse(kB);
  layer.size = 1ULL << 40;
  layer.annotations = {{"b", "2"}, {"a", "\"quoted\" \xc3\xa9"}};
  manifest.layers = {layer, layer};
  manifest.subject = Descriptor{
      .media_type = std::string(media_type::kOciManifest), .digest = *Digest::parse(kA), .size = 5};
  manifest.annotations = {{"z", "1"}};
  const std::string text = serialize(manifest);
  EXPECT_EQ(text, serialize(manifest));
  EXPECT_THAT(text, HasSubstr(R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.)"
                              R"(manifest.v1+json","artifactType":"application/vnd.pagein.)"
                              R"(layer.indexes.v1","config":{)"));
  auto back = parse_manifest(as_bytes(text), media_type::kOciManifest);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->layers, manifest.layers);
  EXPECT_EQ(back->subject, manifest.subject);
  EXPECT_EQ(back->annotations, manifest.annotations);
  EXPECT_EQ(serialize(*back), text);
  EXPECT_EQ(back->effective_artifact_type(), media_type::kLayerIndexArtifact);
  back->artifact_type.clear();
  EXPECT_EQ(back->effective_artifact_type(), media_type::kEmpty);
  EXPECT_EQ(empty_descriptor().digest.hex(),
            "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a");
}

TEST(Manifest, RefusesAmbiguousAndBrokenDocuments) {
  const std::string config = R"("config":)" + descriptor("x", kA);
  const std::string kBad[] = {
      "",
      "[]",
      "null",
      "{}",
      R"({"schemaVersion":1,"fsLayers":[]})",
      R"({"schemaVersion":2})",
      R"({"schemaVersion":2,"config":1})",
      R"({"schemaVersion":"2",)" + config + "}",
      R"({"schemaVersion":2,"manifests":[],)" + config + "}",
      R"({"schemaVersion":2,"mediaType":")" + std::string(media_type::kOciIndex) + "\"," + config +
          "}",
      R"({"schemaVersion":2,"mediaType":"text/plain",)" + config + "}",
      R"({"schemaVersion":2,"layers":{},)" + config + "}",
      R"({"schemaVersion":2,"layers":[1],)" + config + "}",
      R"({"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:zz","size":1}})",
      R"({"schemaVersion":2,"config":{"mediaType":"x","digest":")" + kA + R"(","size":-1}})",
      R"({"schemaVersion":2,"config":{"mediaType":"x","digest":")" + kA + R"(","size":1.5}})",
      R"({"schemaVersion":2,"config":{"mediaType":"x","digest":")" + kA + R"("}})",
      R"({"schemaVersion":2,"config":{"mediaType":"x","digest":")" + kA +
          R"(","size":18446744073709551615}})",
      R"({"schemaVersion":2,"annotations":{"a":1},)" + config + "}",
      std::string(100'000, '['),
      R"({"a":)" + std::string(1000, '[') + std::string(1000, ']') + "}",
  };
  for (const std::string& bad : kBad) {
    EXPECT_FALSE(parse_manifest(as_bytes(bad)).ok()) << bad.substr(0, 200);
  }
  EXPECT_FALSE(parse_manifest(as_bytes(docker_manifest()), media_type::kOciManifest).ok());
  EXPECT_EQ(parse_manifest(as_bytes(R"({"schemaVersion":1,"fsLayers":[]})")).error().code,
            Code::unsupported);
}

TEST(Manifest, CapsAreKept) {
  EXPECT_EQ(parse_manifest(as_bytes(std::string(kMaxManifestSize + 1, ' '))).error().code,
            Code::exhausted);
  std::string many = R"({"schemaVersion":2,"layers":[)";
  for (size_t i = 0; i <= kMaxLayers; ++i) many += (i ? "," : "") + descriptor("x", kA);
  EXPECT_FALSE(parse_manifest(as_bytes(many + R"(],"config":)" + descriptor("x", kA) + "}")).ok());
  // A tree that would cost far more memory than its text.
  std::string bush = R"({"schemaVersion":2,"x":[)";
  for (int i = 0; i < 300'000; ++i) bush += i ? ",[]" : "[]";
  EXPECT_FALSE(parse_manifest(as_bytes(bush + "]}")).ok());
}

TEST(Index, SelectsThePlatformAndPassesOverArtifacts) {
  auto entry = [&](const std::string& platform, const std::string& digest,
                   const std::string& extra = "") {
    return descriptor(std::string(media_type::kOciManifest), digest,
                      R"(,"platform":)" + platform + extra);
  };
  auto digest_of = [](char c) { return "sha256:" + std::string(64, c); };
  const std::string text =
      R"({"schemaVersion":2,"manifests":[)" +
      entry(R"({"os":"unknown","architecture":"unknown"})", digest_of('0')) + "," +
      entry(R"({"os":"linux","architecture":"arm","variant":"v6"})", digest_of('1')) + "," +
      entry(R"({"os":"linux","architecture":"arm","variant":"v7"})", digest_of('2')) + "," +
      entry(R"({"os":"linux","architecture":"x86_64"})", digest_of('3')) + "," +
      entry(R"({"os":"linux","architecture":"amd64","variant":"v3"})", digest_of('4')) + "," +
      entry(R"({"os":"windows","architecture":"amd64"})", digest_of('5')) + "]}";
  auto index = parse_index(as_bytes(text));
  ASSERT_TRUE(index.ok()) << index.error().message;
  auto selected = [&](const char* platform) {
    const Descriptor* found = select_platform(*index, *Platform::parse(platform));
    return found == nullptr ? std::string() : found->digest.hex().substr(0, 1);
  };
  EXPECT_EQ(selected("linux/amd64"), "3");
  EXPECT_EQ(selected("linux/amd64/v3"), "4");
  EXPECT_EQ(selected("linux/amd64/v2"), "3");
  EXPECT_EQ(selected("linux/arm/v7"), "2");
  EXPECT_EQ(selected("linux/arm/v6"), "1");
  EXPECT_EQ(selected("linux/arm64"), "2");
  EXPECT_EQ(selected("linux/s390x"), "");
  EXPECT_EQ(serialize(*index), serialize(*parse_index(as_bytes(serialize(*index)))));
}

TEST(Index, EntriesWithoutPlatformServeIfNothingElseDoes) {
  const std::string text = R"({"schemaVersion":2,"manifests":[)" +
                           descriptor(std::string(media_type::kOciManifest), kA) + "]}";
  auto index = parse_index(as_bytes(text));
  ASSERT_TRUE(index.ok());
  EXPECT_NE(select_platform(*index, Platform::host()), nullptr);
}

TEST(PlatformTest, ParseAndNormalise) {
  EXPECT_EQ(Platform::parse("linux/aarch64")->str(), "linux/arm64");
  EXPECT_EQ(Platform::parse("Linux/ARM64/v8")->str(), "linux/arm64");
  EXPECT_EQ(Platform::parse("linux/armhf")->str(), "linux/arm/v7");
  EXPECT_EQ(Platform::parse("linux/arm/6")->str(), "linux/arm/v6");
  EXPECT_EQ(Platform::parse("macos/x86_64")->str(), "darwin/amd64");
  EXPECT_EQ(Platform::parse("arm64")->architecture, "arm64");
  EXPECT_EQ(Platform::parse("linux")->str(), Platform::host().str());
  for (const char* bad : {"", "/", "linux/", "a/b/c/d", "linux/amd 64", "linux//v7"}) {
    EXPECT_FALSE(Platform::parse(bad).ok()) << bad;
  }
}

TEST(ImageConfigTest, ReadsWhatRunsAndWhatItIsMadeOf) {
  const std::string text =
      R"({"architecture":"amd64","os":"linux","created":"2024-01-01T00:00:00Z","config":{)"
      R"("Entrypoint":["/bin/sh","-c"],"Cmd":null,"Env":["A=b"],"WorkingDir":"/srv","User":"1:2",)"
      R"("Volumes":{"/data":{}},"ExposedPorts":{"80/tcp":{}},"Labels":{"l":"v"}},)"
      R"("rootfs":{"type":"layers","diff_ids":[")" +
      kA + "\",\"" + kB + R"("]},"history":[]})";
  auto config = parse_image_config(as_bytes(text));
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->platform.str(), "linux/amd64");
  EXPECT_EQ(config->diff_ids.size(), 2u);
  EXPECT_EQ(config->entrypoint, (std::vector<std::string>{"/bin/sh", "-c"}));
  EXPECT_TRUE(config->cmd.empty());
  EXPECT_EQ(config->volumes, std::vector<std::string>{"/data"});
  EXPECT_EQ(config->user, "1:2");
  const auto chain = chain_ids(config->diff_ids);
  ASSERT_EQ(chain.size(), 2u);
  EXPECT_EQ(chain[0].str(), kA);
  EXPECT_EQ(chain[1], Digest::of(as_bytes(kA + " " + kB)));
  for (const char* bad :
       {"{}", "[]", R"({"rootfs":{"type":"x"}})", R"({"rootfs":{"diff_ids":[1]}})",
        R"({"rootfs":{"diff_ids":["sha256:x"]}})", R"({"rootfs":{},"config":{"Env":"A=b"}})"}) {
    EXPECT_FALSE(parse_image_config(as_bytes(bad)).ok()) << bad;
  }
}

TEST(MediaTypes, Layers) {
  EXPECT_EQ(parse_layer_type(media_type::kOciLayerZstd).compression, LayerCompression::zstd);
  EXPECT_TRUE(parse_layer_type(media_type::kDockerLayerForeign).foreign);
  EXPECT_FALSE(parse_layer_type(media_type::kLayerIndex).known);
  EXPECT_EQ(layer_media_type(LayerCompression::gzip), media_type::kOciLayerGzip);
  for (const std::string_view name : {annotation::kIndexDigest, annotation::kIndexSize,
                                      annotation::kIndexHeadSize, annotation::kIndexHeadDigest}) {
    EXPECT_TRUE(name.starts_with(annotation::kSnapshotPrefix));
  }
}

}  // namespace
}  // namespace pagein::oci
