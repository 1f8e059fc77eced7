#include "containerd/labels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "oci/media_types.h"

namespace pagein::containerd {
namespace {

oci::Digest digest_of(size_t number) { return oci::Digest::of(as_bytes(std::to_string(number))); }

std::vector<oci::Descriptor> layers(size_t count) {
  std::vector<oci::Descriptor> out(count);
  for (size_t i = 0; i < count; ++i) {
    out[i].media_type = oci::media_type::kOciLayerGzip;
    out[i].digest = digest_of(i);
  }
  return out;
}

TEST(Labels, OfALayer) {
  auto three = layers(3);
  three[1].annotations = {{"containerd.io/snapshot/pagein.index.size", "77"},
                          {"org.opencontainers.image.title", "not for snapshotters"},
                          {"containerd.io/snapshot/long", std::string(5000, 'x')},
                          {kLayerDigest, "sha256:forged"}};
  const Labels labels =
      layer_labels({"docker.io/library/x:1", digest_of(100), three, 1, digest_of(200)});
  EXPECT_EQ(labels, (Labels{{"containerd.io/snapshot/pagein.index.size", "77"},
                            {kSnapshotRef, digest_of(200).str()},
                            {kImageRef, "docker.io/library/x:1"},
                            {kManifestDigest, digest_of(100).str()},
                            {kLayerDigest, digest_of(1).str()},
                            {kImageLayers, digest_of(1).str() + "," + digest_of(2).str()}}));
}

TEST(Labels, TheListOfLayersIsCut) {
  const auto many = layers(200);
  const Labels labels = layer_labels({"x", digest_of(1), many, 0, digest_of(2)});
  const std::string& list = labels.at(kImageLayers);
  // (4096 - 38) / 72: a digest of 71 bytes and a comma.
  EXPECT_EQ(std::count(list.begin(), list.end(), ','), 55);
  EXPECT_LE(list.size() + sizeof kImageLayers - 1, kMaxLabelBytes);
  EXPECT_TRUE(list.ends_with(digest_of(55).str()));
}

TEST(Labels, GcReferences) {
  std::vector<oci::Descriptor> children(5);
  children[0].media_type = oci::media_type::kOciConfig;
  children[1].media_type = oci::media_type::kOciLayerGzip;
  children[2].media_type = oci::media_type::kDockerLayerGzip;
  children[3].media_type = oci::media_type::kOciManifest;
  children[4].media_type = "application/x-unknown";
  for (size_t i = 0; i < children.size(); ++i) children[i].digest = digest_of(i);
  EXPECT_EQ(gc_labels(children),
            (Labels{{"containerd.io/gc.ref.content.config", digest_of(0).str()},
                    {"containerd.io/gc.ref.content.l.0", digest_of(1).str()},
                    {"containerd.io/gc.ref.content.l.1", digest_of(2).str()},
                    {"containerd.io/gc.ref.content.m.0", digest_of(3).str()},
                    {"containerd.io/gc.ref.content.0", digest_of(4).str()}}));
  EXPECT_EQ(gc_snapshot_key("pagein"), "containerd.io/gc.ref.snapshot.pagein");
}

TEST(Labels, DistributionSource) {
  const std::string key = source_key("docker.io");
  EXPECT_EQ(key, "containerd.io/distribution.source.docker.io");
  EXPECT_EQ(source_key("localhost:5000"), "containerd.io/distribution.source.localhost");
  EXPECT_EQ(source_key("[::1]:5000"), "containerd.io/distribution.source.::1");
  EXPECT_EQ(add_source(key, "", "library/a"), "library/a");
  EXPECT_EQ(add_source(key, "library/b,library/a", "library/b"), "library/a,library/b");
  EXPECT_EQ(add_source(key, ",,c,", "b"), "b,c");
  EXPECT_EQ(add_source(key, std::string(4090, 'x'), "b"), "");
}

TEST(Labels, UploadRefsAreContainerds) {
  oci::Descriptor blob;
  blob.digest = digest_of(1);
  const std::string digest = blob.digest.str();
  for (const auto& [type, ref] : std::vector<std::pair<std::string_view, std::string>>{
           {oci::media_type::kOciManifest, "manifest-"},
           {oci::media_type::kDockerManifestList, "index-"},
           {oci::media_type::kDockerLayerGzip, "layer-"},
           {oci::media_type::kOciConfig, "config-"},
           {"x/y", "unknown-"}}) {
    blob.media_type = type;
    EXPECT_EQ(upload_ref(blob), ref + digest);
  }
}

}  // namespace
}  // namespace pagein::containerd
