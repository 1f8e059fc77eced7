#include "node/layers.h"

#include <gtest/gtest.h>

#include "base/log.h"
#include "index/test_layer.h"

namespace pagein::node {
namespace {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::sample_tar;
using index::testing::TestLayer;

OriginRecord origin(const std::string& location, uint64_t size = 7) {
  return {location, oci::Digest::of(as_bytes(location)), size};
}

TEST(Origins, RoundTrip) {
  const std::vector<OriginRecord> some = {origin("r.example/app"),
                                          origin("oci:/tmp/x", UINT64_MAX)};
  EXPECT_EQ(must(parse_origins(format_origins(some))), some);
  EXPECT_TRUE(must(parse_origins(format_origins({}))).empty());
}

TEST(Origins, ALocationThatIsNoTextDoesNotThrow) {
  EXPECT_TRUE(parse_origins(format_origins({origin("oci:/tmp/\xff\xfe")})).ok());
}

TEST(Origins, RefusesWhatItDidNotWrite) {
  const std::string good = format_origins({origin("a.example/b")});
  for (size_t size = 0; size + 2 < good.size(); ++size) {
    EXPECT_FALSE(parse_origins(good.substr(0, size)).ok()) << size;
  }
  auto refused = [&](std::string_view from, std::string_view to) {
    std::string text = good;
    text.replace(text.find(from), from.size(), to);
    const auto parsed = parse_origins(text);
    return !parsed.ok() && parsed.error().code != Code::internal;
  };
  EXPECT_TRUE(refused("\"version\": 1", "\"version\": 2"));
  EXPECT_TRUE(refused("sha256:", "sha999:"));
  EXPECT_TRUE(refused("\"index_size\": 7", "\"index_size\": -7"));
  EXPECT_TRUE(refused("\"index_size\": 7", "\"index_size\": \"7\""));
  EXPECT_FALSE(parse_origins("").ok());
  EXPECT_FALSE(parse_origins("[]").ok());
  EXPECT_FALSE(parse_origins(std::string(100'000, '[')).ok());
  std::vector<OriginRecord> many(5, origin("a.example/b"));
  EXPECT_FALSE(parse_origins(format_origins(many)).ok());
}

class LayersTest : public testing::Test {
 protected:
  LayersTest() {
    log::configure(log::Level::error, log::Format::text);
    reopen();
  }
  void reopen() {
    layers_.reset();
    store_.reset();
    store_ = must(store::LayerStore::open(dir_.path()));
    layers_ = must(Layers::open(context_, *store_, nullptr, dir_.path()));
  }
  std::filesystem::path file(const std::string& id) const {
    return dir_.path() / "origins" / (id + ".json");
  }
  std::vector<OriginRecord> recorded(const std::string& id) {
    return must(parse_origins(must(read_file(file(id)))));
  }
  // A layout that is there, so that it can be opened.
  OriginRecord layout(const std::string& name) {
    const auto path = dir_.path() / name;
    must(make_dirs(path / "blobs/sha256"));
    must(replace_file(path / "oci-layout", as_bytes("{\"imageLayoutVersion\":\"1.0.0\"}")));
    must(replace_file(path / "index.json", as_bytes("{\"schemaVersion\":2,\"manifests\":[]}")));
    return origin("oci:" + path.native());
  }

  TempDir dir_ = must(TempDir::make("layers-"));
  fetch::Context context_{{.demand_threads = 1, .background_threads = 1}};
  std::unique_ptr<store::LayerStore> store_;
  std::unique_ptr<Layers> layers_;
  const TestLayer made_ = make_test_layer(sample_tar());
};

TEST_F(LayersTest, TheNewestOriginIsAskedFirstAndAFewAreKept) {
  std::string id;
  std::shared_ptr<fetch::LayerPager> pager;
  for (const char* name : {"a", "b", "c", "d", "e", "b"}) {
    const auto added = must(layers_->add(made_.head, layout(name)));
    if (pager != nullptr) {
      EXPECT_EQ(added, pager) << "one pager for a layer";
    }
    pager = added;
    id = pager->layer().id();
  }
  const std::vector<OriginRecord> kept = recorded(id);
  ASSERT_EQ(kept.size(), 4u);
  EXPECT_EQ(kept[0], layout("b"));
  EXPECT_EQ(kept[1], layout("e"));
  EXPECT_EQ(pager->origin_name(), layout("b").location);
  pager.reset();
  reopen();
  EXPECT_EQ(must(layers_->find(id))->origin_name(), layout("b").location);
}

TEST_F(LayersTest, FindNeedsTheLayerNotItsOrigins) {
  EXPECT_EQ(layers_->find(std::string(64, '0')).error().code, Code::not_found);
  EXPECT_EQ(layers_->find("../x").error().code, Code::not_found);
  EXPECT_EQ(layers_->add_origin(std::string(64, '0'), layout("a")).error().code, Code::not_found);
  const std::string id = must(layers_->add(made_.head, layout("a")))->layer().id();
  must(replace_file(file(id), as_bytes("damaged")));
  EXPECT_EQ(must(layers_->find(id))->origin_name(), "");
  EXPECT_EQ(must(layers_->add_origin(id, layout("b")))->origin_name(), layout("b").location);
  EXPECT_EQ(recorded(id).size(), 1u);
}

TEST_F(LayersTest, WhatIsUsedIsNotRemoved) {
  auto pager = must(layers_->add(made_.head, layout("a")));
  const std::string id = pager->layer().id();
  EXPECT_EQ(layers_->remove(id).error().code, Code::failed_precondition);
  EXPECT_EQ(layers_->active().size(), 1u);
  pager.reset();
  EXPECT_TRUE(layers_->active().empty());
  EXPECT_TRUE(layers_->remove(id).ok());
  EXPECT_FALSE(std::filesystem::exists(file(id)));
  EXPECT_TRUE(store_->list().empty());
}

TEST_F(LayersTest, SpansTooLongToServeAreRefused) {
  index::LayerFacts facts;
  facts.layer_digest = oci::Digest::of(as_bytes("l"));
  facts.diff_id = oci::Digest::of(as_bytes("d"));
  facts.encoding = codec::Encoding::gzip;
  facts.layer_size = 5000;
  facts.tar_size = 1ULL << 40;
  index::LayerIndexBuilder builder;
  builder.add_span(0, {codec::CheckpointKind::member_start, 0}, {}, {});
  const auto encoded = must(builder.finish(facts, index::FileTableBuilder().finish()));
  EXPECT_EQ(layers_->add(encoded.head, layout("a")).error().code, Code::unsupported);
  EXPECT_TRUE(store_->list().empty());
}

}  // namespace
}  // namespace pagein::node
