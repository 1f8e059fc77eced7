// A layer that is one long zstd frame: spans begin inside it.
#include <zstd.h>

#include "fetch/fetch_fixture.h"

namespace pagein::fetch {
namespace {

using namespace fetch::testing;
using net::Priority;

Bytes one_frame(ByteView data) {
  Bytes out(ZSTD_compressBound(data.size()));
  out.resize(ZSTD_compress(out.data(), out.size(), data.data(), data.size(), 3));
  return out;
}

// A tar of some 8 MiB whose later files repeat parts of earlier ones.
std::string long_tar() {
  const std::string shared = index::testing::test_text(100'000, 1);
  tar::TestArchive archive;
  for (uint32_t i = 0; i < 40; ++i) {
    const std::string own = index::testing::test_text(200'000, 100 + i);
    archive.file("file" + std::to_string(i), own + shared.substr(i * 100, 10'000) + own);
  }
  return archive.end().bytes();
}

class ZstdLayerTest : public FetchTest {
 protected:
  ZstdLayerTest() {
    generous_ = true;
    open(make_test_layer(long_tar(), {.encoding = codec::Encoding::zstd, .compress = one_frame}));
  }
  size_t first_inside() const {
    size_t span = 0;
    while (made_.index->spans[span].payload_size == 0) ++span;
    return span;
  }
};

TEST_F(ZstdLayerTest, EachSpanComesAlone) {
  ASSERT_EQ(made_.index->encoding, codec::Encoding::zstd_blocks);
  ASSERT_GE(spans(), 3U);
  for (size_t span = spans(); span-- > 0;) {
    const auto [offset, length] = data_of(span);
    const Status status = want(offset, length);
    ASSERT_TRUE(status.ok()) << status.error().message;
    expect_bytes(offset, length);
    EXPECT_EQ(source_->reads_of(made_.index->layer_digest), spans() - span);
  }
}

TEST_F(ZstdLayerTest, ARangeOverAllOfThemAndTheBackground) {
  ASSERT_TRUE(want(0, data_.size()).ok());
  expect_bytes(0, data_.size());
  for (size_t i = 0; i < spans(); ++i) layer_->drop_span(i);
  for (;;) {
    Outcome outcome;
    if (!pager_->start_background_run(outcome.completion())) break;
    ASSERT_TRUE(outcome.wait().ok());
  }
  pager_->advance_proof();
  EXPECT_TRUE(layer_->complete());
}

TEST_F(ZstdLayerTest, ADamagedPayloadIsFetchedAgain) {
  const size_t span = first_inside();
  const uint64_t at = made_.index->head_size + made_.index->spans[span].payload_offset + 20;
  bool first = true;
  source_->set_script([&](size_t, const auto& read) {
    if (read.digest != made_.index_digest() || !std::exchange(first, false)) return Answer{};
    return Answer{.flip = at};
  });
  const auto [offset, length] = data_of(span);
  const Status status = want(offset, length);
  ASSERT_TRUE(status.ok()) << status.error().message;
  expect_bytes(offset, length);
  EXPECT_GE(counters().verify_failures, 1U);
}

}  // namespace
}  // namespace pagein::fetch
