// OCI layouts and archives; the archives are made by tar and skopeo's judges
// of the format where those are installed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "oci/image_config.h"
#include "oci/media_types.h"
#include "registry/archive_index.h"
#include "registry/image_store.h"
#include "registry/test_support.h"

namespace pagein::registry {
namespace {

using ::testing::HasSubstr;

bool run(const std::string& command) {
  return std::system(("(" + command + ") >/dev/null 2>&1").c_str()) == 0;
}

std::string drain(ByteStream& stream) {
  std::string out;
  Bytes buffer(10'000);
  for (;;) {
    auto n = stream.read(buffer);
    EXPECT_TRUE(n.ok()) << n.error().message;
    if (!n.ok() || *n == 0) return out;
    out.append(as_text(std::span(buffer).first(*n)));
  }
}

struct Built {
  oci::Descriptor manifest;
  oci::Descriptor layer;
  std::string layer_bytes;
};

// A one-layer image with a real (uncompressed) tar as its layer.
Built build_image(ImageDestination& destination, const std::filesystem::path& scratch) {
  Built out;
  EXPECT_TRUE(run("mkdir -p " + scratch.string() + "/root/etc && echo hello > " + scratch.string() +
                  "/root/etc/motd && tar -C " + scratch.string() + "/root --mtime=@0 -cf " +
                  scratch.string() + "/layer.tar etc"));
  out.layer_bytes = *read_file(scratch / "layer.tar");
  out.layer = *put_blob(destination, out.layer_bytes, oci::media_type::kOciLayer);
  const std::string config = R"({"architecture":"amd64","os":"linux","config":{"Cmd":["sh"]},)"
                             R"("rootfs":{"type":"layers","diff_ids":[")" +
                             out.layer.digest.str() + R"("]}})";
  oci::Manifest manifest;
  manifest.config = *put_blob(destination, config, oci::media_type::kOciConfig);
  manifest.layers = {out.layer};
  out.manifest =
      *destination.put_manifest(oci::serialize(manifest), manifest.media_type, destination.tag());
  return out;
}

class StoresTest : public ::testing::Test {
 protected:
  StoresTest() : dir_(*TempDir::make("stores")) {}
  std::string path(const char* name) const { return (dir_.path() / name).string(); }
  std::shared_ptr<ImageSource> source(const std::string& location) const {
    auto opened = open_source(*parse_location(location), nullptr);
    EXPECT_TRUE(opened.ok()) << opened.error().message;
    return opened.ok() ? *opened : nullptr;
  }
  TempDir dir_;
};

TEST_F(StoresTest, LayoutKeepsWhatItIsGiven) {
  auto destination = *open_destination(*parse_location("oci:" + path("l")), nullptr);
  EXPECT_EQ(destination->tag(), "latest");
  const Built image = build_image(*destination, dir_.path());
  for (const std::string& location : {"oci:" + path("l"), "oci:" + path("l") + ":latest"}) {
    auto layout = source(location);
    EXPECT_EQ(layout->resolve()->digest, image.manifest.digest);
    auto stream = layout->open_blob(image.layer);
    ASSERT_TRUE(stream.ok());
    EXPECT_TRUE(drain(**stream) == image.layer_bytes);
  }
  auto missing = source("oci:" + path("l") + ":nope")->resolve();
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message, HasSubstr("latest"));
  // The same tag again replaces the entry; another one makes the choice unclear.
  auto other = *open_destination(*parse_location("oci:" + path("l") + ":other"), nullptr);
  build_image(*other, dir_.path());
  build_image(*other, dir_.path());
  EXPECT_EQ(source("oci:" + path("l"))->resolve().error().code, Code::invalid_argument);
  EXPECT_TRUE(source("oci:" + path("l") + ":other")->resolve().ok());
}

TEST_F(StoresTest, LayoutRefusesWrongBytes) {
  auto destination = *open_destination(*parse_location("oci:" + path("l")), nullptr);
  auto writer = *destination->start_blob({});
  ASSERT_TRUE(writer->write(as_bytes("abc")).ok());
  EXPECT_EQ(writer->commit(oci::Digest::of({})).error().code, Code::corrupt_input);
  writer.reset();
  size_t left = 0;
  for ([[maybe_unused]] const auto& file :
       std::filesystem::directory_iterator(dir_.path() / "l/blobs/sha256")) {
    ++left;
  }
  EXPECT_EQ(left, 0u);
  const Built image = build_image(*destination, dir_.path());
  const auto blob = dir_.path() / "l/blobs/sha256" / image.layer.digest.hex();
  std::string bytes = image.layer_bytes;
  bytes[0] ^= 1;
  ASSERT_TRUE(replace_file(blob, as_bytes(bytes)).ok());
  auto layout = source("oci:" + path("l"));
  EXPECT_EQ(layout->read_blob(image.layer, 1 << 20).error().code, Code::corrupt_input);
  ASSERT_TRUE(replace_file(blob, as_bytes("short")).ok());
  EXPECT_FALSE(*destination->has_blob(image.layer));
}

TEST_F(StoresTest, NotALayout) {
  EXPECT_FALSE(open_source(*parse_location("oci:" + path("none")), nullptr).ok());
  ASSERT_TRUE(make_dirs(path("empty")).ok());
  EXPECT_FALSE(open_source(*parse_location("oci:" + path("empty")), nullptr).ok());
}

TEST_F(StoresTest, OciArchiveIsReadInPlace) {
  auto destination = *open_destination(*parse_location("oci:" + path("l") + ":v1"), nullptr);
  const Built image = build_image(*destination, dir_.path());
  for (const std::string format : {"gnu", "pax", "ustar"}) {
    ASSERT_TRUE(
        run("tar --format=" + format + " -C " + path("l") + " -cf " + path("a.tar") + " ."));
    auto archive = source("oci-archive:" + path("a.tar") + ":v1");
    ASSERT_NE(archive, nullptr);
    EXPECT_EQ(archive->resolve()->digest, image.manifest.digest);
    auto stream = archive->open_blob(image.layer);
    ASSERT_TRUE(stream.ok());
    EXPECT_TRUE(drain(**stream) == image.layer_bytes);
    auto sink = std::make_shared<SinkProbe>();
    archive->blobs()->read({.digest = image.layer.digest,
                            .blob_size = image.layer.size,
                            .offset = 100,
                            .length = 1000},
                           sink);
    ASSERT_TRUE(sink->wait().ok());
    EXPECT_TRUE(sink->bytes == image.layer_bytes.substr(100, 1000));
  }
  ASSERT_TRUE(run("gzip -k " + path("a.tar")));
  auto packed = open_source(*parse_location("oci-archive:" + path("a.tar.gz")), nullptr);
  ASSERT_FALSE(packed.ok());
  EXPECT_EQ(packed.error().code, Code::unsupported);
}

// As docker save of old wrote it: a layer shared by way of a symlink.
TEST_F(StoresTest, DockerArchiveBecomesAManifest) {
  auto destination = *open_destination(*parse_location("oci:" + path("l")), nullptr);
  const Built image = build_image(*destination, dir_.path());
  const std::string id = image.layer.digest.str();
  const std::string config = R"({"architecture":"amd64","os":"linux","rootfs":{"type":"layers",)"
                             R"("diff_ids":[")" +
                             id + "\",\"" + id + "\",\"" + id + R"("]}})";
  ASSERT_TRUE(make_dirs(path("d/one")).ok());
  ASSERT_TRUE(make_dirs(path("d/two")).ok());
  ASSERT_TRUE(replace_file(path("d/cfg.json"), as_bytes(config)).ok());
  ASSERT_TRUE(replace_file(path("d/one/layer.tar"), as_bytes(image.layer_bytes)).ok());
  ASSERT_TRUE(run("ln -s ../one/layer.tar " + path("d/two/layer.tar")));
  ASSERT_TRUE(run("gzip -n < " + path("d/one/layer.tar") + " > " + path("d/packed.tar.gz")));
  ASSERT_TRUE(replace_file(
                  path("d/manifest.json"),
                  as_bytes(R"([{"Config":"cfg.json","RepoTags":["app:1","registry.example/app:2"],)"
                           R"("Layers":["one/layer.tar","two/layer.tar","packed.tar.gz"]}])"))
                  .ok());
  ASSERT_TRUE(run("tar -C " + path("d") + " -cf " + path("d.tar") + " ."));
  for (const std::string name :
       {"", ":app:1", ":docker.io/library/app:1", ":registry.example/app:2"}) {
    auto archive = source("docker-archive:" + path("d.tar") + name);
    ASSERT_NE(archive, nullptr) << name;
    auto descriptor = archive->resolve();
    ASSERT_TRUE(descriptor.ok()) << descriptor.error().message;
    auto bytes = archive->read_manifest(*descriptor);
    ASSERT_TRUE(bytes.ok()) << bytes.error().message;
    auto manifest = oci::parse_manifest(as_bytes(*bytes), descriptor->media_type);
    ASSERT_TRUE(manifest.ok());
    ASSERT_EQ(manifest->layers.size(), 3u);
    EXPECT_EQ(manifest->layers[0].digest, image.layer.digest);
    EXPECT_EQ(manifest->layers[2].media_type, oci::media_type::kOciLayerGzip);
    for (const oci::Descriptor& layer : manifest->layers) {
      auto stream = archive->open_blob(layer);
      ASSERT_TRUE(stream.ok());
      EXPECT_EQ(drain(**stream).size(), layer.size);
    }
    EXPECT_EQ(*archive->read_blob(manifest->config, 1 << 20), config);
  }
  auto absent = open_source(*parse_location("docker-archive:" + path("d.tar") + ":nope"), nullptr);
  ASSERT_FALSE(absent.ok());
  EXPECT_THAT(absent.error().message, HasSubstr("app:1"));
}

TEST_F(StoresTest, SkopeoAndWeReadEachOther) {
  if (!run("skopeo --version")) GTEST_SKIP() << "skopeo is not installed";
  auto destination = *open_destination(*parse_location("oci:" + path("l") + ":v1"), nullptr);
  const Built image = build_image(*destination, dir_.path());
  const std::string copy = "skopeo --insecure-policy copy oci:" + path("l") + ":v1 ";
  ASSERT_TRUE(run(copy + "oci:" + path("copied") + ":v1"));
  ASSERT_TRUE(run(copy + "oci-archive:" + path("o.tar") + ":v1"));
  ASSERT_TRUE(run(copy + "docker-archive:" + path("d.tar") + ":app:v1"));
  for (const std::string& location :
       {"oci:" + path("copied"), "oci-archive:" + path("o.tar"), "docker-archive:" + path("d.tar"),
        "docker-archive:" + path("d.tar") + ":app:v1"}) {
    auto read = source(location);
    ASSERT_NE(read, nullptr) << location;
    auto descriptor = read->resolve();
    ASSERT_TRUE(descriptor.ok()) << descriptor.error().message;
    auto manifest =
        oci::parse_manifest(as_bytes(*read->read_manifest(*descriptor)), descriptor->media_type);
    ASSERT_TRUE(manifest.ok());
    auto config = oci::parse_image_config(as_bytes(*read->read_blob(manifest->config, 1 << 20)));
    ASSERT_TRUE(config.ok());
    EXPECT_EQ(config->diff_ids.at(0), image.layer.digest) << location;
    auto stream = read->open_blob(manifest->layers.at(0));
    ASSERT_TRUE(stream.ok());
    EXPECT_EQ(drain(**stream).size(), manifest->layers[0].size);
  }
}

TEST(ArchiveIndexTest, LinksThatLoopOrLeave) {
  auto dir = *TempDir::make("links");
  const std::string at = dir.path().string();
  ASSERT_TRUE(run("cd " + at + " && ln -s b a && ln -s a b && ln -s ../../../etc/passwd c && " +
                  "tar -cf t.tar a b c"));
  const std::string bytes = *read_file(dir.path() / "t.tar");
  auto index = ArchiveIndex::read(
      [&](uint64_t offset, std::span<uint8_t> out) -> Status {
        std::copy_n(bytes.begin() + static_cast<ptrdiff_t>(offset), out.size(), out.begin());
        return {};
      },
      bytes.size());
  ASSERT_TRUE(index.ok()) << index.error().message;
  for (const char* name : {"a", "b", "c", "d", ""}) EXPECT_EQ(index->find(name), nullptr);
}

}  // namespace
}  // namespace pagein::registry
