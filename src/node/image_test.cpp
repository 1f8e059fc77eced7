#include "node/image.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "node/fake_images.h"
#include "oci/annotations.h"

namespace pagein::node {
namespace {

using testing::HasSubstr;

oci::Digest digest(const std::string& text) { return oci::Digest::of(as_bytes(text)); }

class ImageTest : public testing::Test {
 protected:
  // An image of so many layers; `changed` sees the manifest before it is stored.
  oci::Descriptor put_image(size_t layers, size_t diff_ids,
                            const std::function<void(oci::Manifest&)>& changed = {}) {
    std::string list;
    for (size_t i = 0; i < diff_ids; ++i) {
      list += (i > 0 ? ",\"" : "\"") + digest("diff" + std::to_string(i)).str() + "\"";
    }
    oci::Manifest manifest;
    manifest.config = source_.put(
        "{\"architecture\":\"" + oci::Platform::host().architecture +
            "\",\"os\":\"linux\",\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" + list + "]}}",
        "application/vnd.oci.image.config.v1+json");
    for (size_t i = 0; i < layers; ++i) {
      oci::Descriptor layer;
      layer.media_type = "application/vnd.oci.image.layer.v1.tar+gzip";
      layer.digest = digest("layer" + std::to_string(i));
      layer.size = 1000 + i;
      manifest.layers.push_back(layer);
    }
    if (changed) changed(manifest);
    return source_.put(oci::serialize(manifest), kManifestType);
  }
  oci::Descriptor put_index(std::vector<oci::Descriptor> manifests) {
    oci::ImageIndex index;
    index.manifests = std::move(manifests);
    return source_.put(oci::serialize(index), kIndexType);
  }
  Result<std::shared_ptr<const Image>> load(const oci::Digest& wanted = {}) {
    return load_image(source_, "r.example/app:1", wanted);
  }

  FakeImages source_;
};

TEST_F(ImageTest, LoadsAManifestThatTheTagNames) {
  source_.tag = put_image(3, 3);
  for (const oci::Digest& wanted : {oci::Digest(), source_.tag.digest}) {
    const auto image = load(wanted);
    ASSERT_TRUE(image.ok()) << image.error().message;
    EXPECT_EQ((*image)->manifest_digest, source_.tag.digest);
    ASSERT_EQ((*image)->layers.size(), 3u);
    EXPECT_EQ((*image)->layers[1].diff_id, digest("diff1"));
    EXPECT_EQ((*image)->layers[0].chain_id, digest("diff0"));
    EXPECT_NE((*image)->layers[2].chain_id, digest("diff2"));
    EXPECT_FALSE((*image)->layers[0].index.has_value());
  }
}

TEST_F(ImageTest, ChoosesThePlatformOrTheManifestAskedFor) {
  oci::Descriptor ours = put_image(2, 2);
  ours.platform = oci::Platform::host();
  oci::Descriptor other = put_image(1, 1);
  other.platform = oci::Platform::host();
  other.platform->architecture = "s390x";
  source_.tag = put_index({other, ours});
  EXPECT_EQ(load().value()->manifest_digest, ours.digest);
  EXPECT_EQ(load(other.digest).value()->manifest_digest, other.digest);
  source_.tag = put_index({other});
  EXPECT_EQ(load().error().code, Code::not_found);
}

// Labels can be forged: what they name must be what the tag leads to.
TEST_F(ImageTest, AManifestThatTheTagDoesNotLeadToIsRefused) {
  const oci::Descriptor forged = put_image(1, 1);
  source_.tag = put_image(2, 2);
  const auto direct = load(forged.digest);
  ASSERT_FALSE(direct.ok());
  EXPECT_EQ(direct.error().code, Code::failed_precondition);
  EXPECT_THAT(direct.error().message, HasSubstr("the tag may have moved"));
  oci::Descriptor entry = source_.tag;
  entry.platform = oci::Platform::host();
  source_.tag = put_index({entry});
  EXPECT_EQ(load(forged.digest).error().code, Code::failed_precondition);
  EXPECT_TRUE(load(entry.digest).ok());
}

TEST_F(ImageTest, AnIndexInAnIndexIsNoImage) {
  oci::Descriptor inner = put_index({});
  source_.tag = put_index({inner});
  EXPECT_FALSE(load(inner.digest).ok());
  EXPECT_FALSE(load().ok());
  EXPECT_FALSE(load(source_.tag.digest).ok());
}

TEST_F(ImageTest, LayersAndDiffIdsMustAgree) {
  for (const auto& [layers, diff_ids] : {std::pair(2, 3), std::pair(3, 2), std::pair(0, 1)}) {
    source_.tag = put_image(static_cast<size_t>(layers), static_cast<size_t>(diff_ids));
    const auto image = load();
    ASSERT_FALSE(image.ok());
    EXPECT_EQ(image.error().code, Code::corrupt_input);
  }
}

TEST_F(ImageTest, WhatCannotBeReadIsAnError) {
  EXPECT_EQ(load().error().code, Code::not_found);
  source_.tag = put_image(1, 1, [](oci::Manifest& m) { m.config.digest = digest("elsewhere"); });
  EXPECT_EQ(load().error().code, Code::not_found);
  source_.tag = source_.put("{\"schemaVersion\":2", kManifestType);
  EXPECT_EQ(load().error().code, Code::corrupt_input);
  source_.tag = source_.put("[]", kIndexType);
  EXPECT_EQ(load().error().code, Code::corrupt_input);
}

TEST_F(ImageTest, HostileIndexAnnotationsMakeAnOrdinaryLayer) {
  const index::IndexLocation good{digest("index"), 5000, 1000, digest("head")};
  auto loaded_with = [&](std::string_view key, const std::string& value) {
    source_.tag = put_image(1, 1, [&](oci::Manifest& m) {
      index::set_index_location(&m.layers[0], good);
      if (!key.empty()) m.layers[0].annotations[std::string(key)] = value;
    });
    const auto image = load();
    EXPECT_TRUE(image.ok());
    return image.ok() && (*image)->layers[0].index.has_value();
  };
  namespace a = oci::annotation;
  EXPECT_TRUE(loaded_with("", ""));
  for (const char* size :
       {"", "-1", "5001", "0", "1e3", "99999999999999999999", "268435457", " 5"}) {
    EXPECT_FALSE(loaded_with(a::kIndexHeadSize, size)) << size;
  }
  EXPECT_FALSE(loaded_with(a::kIndexSize, "999999999999999"));
  EXPECT_FALSE(loaded_with(a::kIndexSize, "999"));
  EXPECT_FALSE(loaded_with(a::kIndexDigest, "sha256:../../etc/passwd"));
  EXPECT_FALSE(loaded_with(a::kIndexHeadDigest, "md5:abc"));
}

TEST(IndexHeads, AreVerifiedOneByOne) {
  const Bytes good(5000, 1);
  const Bytes bad(6000, 2);
  fetch::testing::FakeSource source;
  source.add_blob(good);
  source.add_blob(bad);
  auto location = [](const Bytes& blob, const oci::Digest& head) {
    return index::IndexLocation{oci::Digest::of(blob), blob.size(), 100, head};
  };
  const auto heads = load_index_heads(
      source,
      {location(good, oci::Digest::of(ByteView(good).first(100))),
       location(bad, digest("something else")), location(Bytes(9), digest("not there"))},
      net::Clock::time_point::max());
  ASSERT_EQ(heads.size(), 3u);
  EXPECT_EQ(heads[0].value(), Bytes(100, 1));
  EXPECT_EQ(heads[1].error().code, Code::corrupt_input);
  EXPECT_FALSE(heads[2].ok());
  source.wait_idle();
}

}  // namespace
}  // namespace pagein::node
