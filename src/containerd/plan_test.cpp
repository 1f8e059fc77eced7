#include "containerd/plan.h"

#include <gtest/gtest.h>

#include "containerd/test_image.h"

namespace pagein::containerd {
namespace {

PlanRequest request_for(const oci::Descriptor& target) {
  return {"example.com/app:1", target, oci::Platform::host(), "example.com", "app"};
}

TEST(Plan, OfAnIndex) {
  FakeSource source;
  const auto parts = source.add_image({{{"a", "1"}}, {{"b", "2"}}});
  const auto plan = plan_pull(request_for(parts.index), source);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_EQ(plan->target.digest, parts.index.digest);
  EXPECT_EQ(plan->manifest_digest, parts.manifest.digest);
  EXPECT_EQ(plan->config_digest, parts.config.digest);
  EXPECT_EQ(plan->layers, parts.layers);
  EXPECT_EQ(plan->chain_ids.size(), 2u);
  EXPECT_EQ(plan->chain_ids[0], plan->diff_ids[0]);
  // Children first: what a document refers to is there before it.
  ASSERT_EQ(plan->documents.size(), 3u);
  EXPECT_EQ(plan->documents[0].descriptor.digest, parts.config.digest);
  EXPECT_EQ(plan->documents[1].descriptor.digest, parts.manifest.digest);
  EXPECT_EQ(plan->documents[1].children.size(), 3u);
  EXPECT_EQ(plan->documents[2].descriptor.digest, parts.index.digest);
  EXPECT_EQ(plan->documents[2].children.size(), 2u);
}

TEST(Plan, OfAManifest) {
  FakeSource source;
  const auto parts = source.add_image({{{"a", "1"}}});
  oci::Descriptor bare = parts.manifest;
  bare.media_type.clear();
  const auto plan = plan_pull(request_for(bare), source);
  ASSERT_TRUE(plan.ok()) << plan.error().message;
  EXPECT_EQ(plan->target.media_type, oci::media_type::kOciManifest);
  EXPECT_EQ(plan->documents.size(), 2u);
}

TEST(Plan, OtherPlatformsAreNotFound) {
  FakeSource source;
  const auto parts = source.add_image({{{"a", "1"}}});
  PlanRequest request = request_for(parts.index);
  request.platform = *oci::Platform::parse("linux/s390x");
  const auto plan = plan_pull(request, source);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, Code::not_found);
}

TEST(Plan, LayersThatAreNoTreesAreUnsupported) {
  FakeSource source;
  const auto parts = source.add_image(
      {{{"a", "1"}}}, [](size_t, oci::Descriptor& layer) { layer.media_type = "text/plain"; });
  EXPECT_EQ(plan_pull(request_for(parts.index), source).error().code, Code::unsupported);
}

TEST(Plan, AsManyDiffIdsAsLayers) {
  FakeSource source;
  const auto parts = source.add_image({{{"a", "1"}}});
  oci::Manifest manifest;
  manifest.config = parts.config;
  manifest.layers = {parts.layers[0], parts.layers[0]};
  const auto target = source.add(oci::serialize(manifest), manifest.media_type);
  EXPECT_EQ(plan_pull(request_for(target), source).error().code, Code::corrupt_input);
}

TEST(Plan, EndlessIndexesAreRefused) {
  FakeSource source;
  oci::Descriptor inner = source.add_image({{{"a", "1"}}}).index;
  for (int i = 0; i < 6; ++i) {
    oci::ImageIndex index;
    index.manifests = {inner};
    inner = source.add(oci::serialize(index), index.media_type);
  }
  EXPECT_FALSE(plan_pull(request_for(inner), source).ok());
}

}  // namespace
}  // namespace pagein::containerd
