#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/blob_reader.h"
#include "registry/file_blob_source.h"
#include "registry/test_support.h"

namespace pagein::registry {
namespace {

using net::FakeRequest;
using net::FakeResponse;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

class BlobSourceTest : public ::testing::Test {
 protected:
  BlobSourceTest() : content_(pattern(1'000'000)), digest_(registry_.add(content_)) {
    source_ = Repository(test_.session, registry_.reference()).blobs();
  }

  BlobRead range(uint64_t offset, uint64_t length) const {
    return {.digest = digest_, .blob_size = content_.size(), .offset = offset, .length = length};
  }
  // Reads to the end and checks that what came is a prefix of what was asked.
  Status read(const BlobRead& read) {
    auto sink = std::make_shared<SinkProbe>();
    source_->read(read, sink);
    Status status = sink->wait();
    EXPECT_LE(sink->bytes.size(), read.length);
    EXPECT_TRUE(sink->bytes == content_.substr(read.offset, sink->bytes.size()));
    if (status.ok()) {
      EXPECT_EQ(sink->bytes.size(), read.length);
    }
    return status;
  }
  std::vector<std::string> ranges_asked() const {
    std::vector<std::string> out;
    for (const FakeRequest& request : registry_.server().requests()) {
      out.push_back(request.header("range"));
    }
    return out;
  }

  FakeRegistry registry_;
  std::string content_;
  oci::Digest digest_;
  TestSession test_ = make_test_session();
  std::shared_ptr<BlobSource> source_;
};

TEST_F(BlobSourceTest, ReadsRangesAndWholeBlobs) {
  EXPECT_TRUE(read(range(0, 10)).ok());
  EXPECT_TRUE(read(range(999'999, 1)).ok());
  EXPECT_TRUE(read(range(123'456, 500'000)).ok());
  EXPECT_TRUE(read(range(0, content_.size())).ok());
  EXPECT_EQ(ranges_asked(), (std::vector<std::string>{"bytes=0-9", "bytes=999999-999999",
                                                      "bytes=123456-623455", ""}));
  EXPECT_FALSE(source_->range_unsupported(digest_));
  EXPECT_GT(source_->link().first_byte.count(), 0);
}

TEST_F(BlobSourceTest, NonsenseRangesAreRefused) {
  for (const BlobRead& bad : {range(0, 0), range(0, content_.size() + 1), range(content_.size(), 1),
                              range(UINT64_MAX, 2)}) {
    auto sink = std::make_shared<SinkProbe>();
    source_->read(bad, sink);
    EXPECT_EQ(sink->wait().error().code, Code::invalid_argument);
  }
  EXPECT_TRUE(registry_.server().requests().empty());
}

TEST_F(BlobSourceTest, ResumesAfterAResetWithoutRepeatingABytes) {
  registry_.set_fault([this](const FakeRequest& request, int count) {
    FakeResponse response = FakeRegistry::serve(content_, request);
    if (count > 3) return std::optional(response);
    response.claimed_length = response.body.size();
    response.body.resize(response.body.size() / 2);
    response.end = count % 2 ? FakeResponse::End::reset : FakeResponse::End::close;
    return std::optional(response);
  });
  EXPECT_TRUE(read(range(100, 800)).ok());
  // A reset may lose bytes on the way, so only the first and last are certain.
  const auto asked = ranges_asked();
  EXPECT_EQ(asked.size(), 4u);
  EXPECT_EQ(asked.front(), "bytes=100-899");
  EXPECT_EQ(test_.scheduler->delays().size(), 3u);
}

TEST_F(BlobSourceTest, WholeBlobResumesByRange) {
  registry_.set_fault([this](const FakeRequest& request, int count) {
    FakeResponse response = FakeRegistry::serve(content_, request);
    if (count == 1) {
      response.claimed_length = content_.size();
      response.body.resize(600'000);
      response.end = FakeResponse::End::close;
    }
    return std::optional(response);
  });
  EXPECT_TRUE(read(range(0, content_.size())).ok());
  EXPECT_EQ(ranges_asked(), (std::vector<std::string>{"", "bytes=600000-999999"}));
}

TEST_F(BlobSourceTest, GivesUpAfterAttemptsWithoutProgress) {
  registry_.set_fault(
      [](const FakeRequest&, int) { return std::optional(FakeResponse{.status = 503}); });
  const Status status = read(range(0, 10));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::unavailable);
  EXPECT_THAT(status.error().message, HasSubstr("bytes 0-9 of 1000000"));
  EXPECT_THAT(status.error().message, HasSubstr("503"));
  EXPECT_EQ(registry_.server().requests().size(), 6u);
  const auto delays = test_.scheduler->delays();
  ASSERT_EQ(delays.size(), 5u);
  EXPECT_EQ(delays[0], 150ms);  // 200 ms, jitter at its middle
  EXPECT_EQ(delays[4], 2400ms);
}

TEST_F(BlobSourceTest, HonoursRetryAfterWithinReason) {
  registry_.set_fault([](const FakeRequest&, int count) -> std::optional<FakeResponse> {
    if (count == 1) return FakeResponse{.status = 429, .headers = {{"Retry-After", "7"}}};
    if (count == 2) return FakeResponse{.status = 429, .headers = {{"Retry-After", "999999"}}};
    return std::nullopt;
  });
  EXPECT_TRUE(read(range(0, 10)).ok());
  const auto delays = test_.scheduler->delays();
  ASSERT_EQ(delays.size(), 2u);
  EXPECT_EQ(delays[0], 7s);
  EXPECT_EQ(delays[1], 60s);
}

TEST_F(BlobSourceTest, StopsTryingWhenTheDeadlineIsNear) {
  registry_.set_fault([](const FakeRequest&, int) {
    return std::optional(FakeResponse{.status = 503, .headers = {{"Retry-After", "30"}}});
  });
  BlobRead late = range(0, 10);
  late.deadline = net::Clock::now() + 20s;
  const Status status = read(late);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::timeout);
  EXPECT_EQ(registry_.server().requests().size(), 1u);
}

TEST_F(BlobSourceTest, UsesAWholeAnswerToARange) {
  registry_.set_fault(
      [this](const FakeRequest&, int) { return std::optional(FakeResponse{.body = content_}); });
  EXPECT_TRUE(read(range(0, 1000)).ok());
  EXPECT_TRUE(source_->range_unsupported(digest_));
  EXPECT_TRUE(read(range(500'000, 1000)).ok());
  EXPECT_TRUE(read(range(500'000, 500'000)).ok());
  // The whole has come through: the mirror holds it now and may do better.
  EXPECT_TRUE(read(range(0, content_.size())).ok());
  EXPECT_FALSE(source_->range_unsupported(digest_));
}

TEST_F(BlobSourceTest, RefusesToSkipTooMuch) {
  const BlobRead far{.digest = digest_, .blob_size = 1ULL << 40, .offset = 1ULL << 39, .length = 1};
  registry_.set_fault([](const FakeRequest&, int) {
    return std::optional(
        FakeResponse{.body = "x", .claimed_length = 1ULL << 40, .end = FakeResponse::End::close});
  });
  auto sink = std::make_shared<SinkProbe>();
  source_->read(far, sink);
  EXPECT_EQ(sink->wait().error().code, Code::unsupported);
  EXPECT_TRUE(source_->range_unsupported(digest_));
}

TEST_F(BlobSourceTest, WrongContentRangesAreCorrupt) {
  const char* const kWrong[] = {
      "bytes 0-9/1000000",     "bytes 100-199/5", "bytes 100-199/999999",  "bytes 100-150/1000000",
      "bytes 101-200/1000000", "bytes */1000000", "items 100-199/1000000", ""};
  for (const char* wrong : kWrong) {
    registry_.set_fault([wrong](const FakeRequest&, int) {
      return std::optional(FakeResponse{
          .status = 206, .headers = {{"Content-Range", wrong}}, .body = std::string(100, 'x')});
    });
    auto sink = std::make_shared<SinkProbe>();
    source_->read(range(100, 100), sink);
    const Status status = sink->wait();
    ASSERT_FALSE(status.ok()) << wrong;
    EXPECT_EQ(status.error().code, Code::corrupt_input) << wrong;
    EXPECT_EQ(sink->bytes, "");
  }
}

TEST_F(BlobSourceTest, AnUnknownTotalIsAccepted) {
  registry_.set_fault([this](const FakeRequest&, int) {
    return std::optional(FakeResponse{.status = 206,
                                      .headers = {{"Content-Range", "bytes 100-199/*"}},
                                      .body = content_.substr(100, 100)});
  });
  EXPECT_TRUE(read(range(100, 100)).ok());
}

TEST_F(BlobSourceTest, NotFoundIsFinal) {
  registry_.set_fault(
      [](const FakeRequest&, int) { return std::optional(FakeResponse{.status = 404}); });
  EXPECT_EQ(read(range(0, 1)).error().code, Code::not_found);
  EXPECT_EQ(registry_.server().requests().size(), 1u);
}

TEST_F(BlobSourceTest, RedirectTargetsAreKeptUntilTheyExpire) {
  std::atomic<int> generation{1};
  std::atomic<int> asked_registry{0};
  registry_.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    if (request.path.starts_with("/v2/")) {
      ++asked_registry;
      return FakeResponse{
          .status = 307,
          .headers = {{"Location", registry_.server().other_url("/storage?sig=s3cret" +
                                                                std::to_string(generation))}}};
    }
    if (request.query != "sig=s3cret" + std::to_string(generation)) {
      return FakeResponse{.status = 403};
    }
    return FakeRegistry::serve(content_, request);
  });
  EXPECT_TRUE(read(range(0, 10)).ok());
  EXPECT_TRUE(read(range(10, 10)).ok());
  EXPECT_EQ(asked_registry, 1);
  generation = 2;  // the signature has expired
  EXPECT_TRUE(read(range(20, 10)).ok());
  EXPECT_EQ(asked_registry, 2);
  EXPECT_TRUE(test_.scheduler->delays().empty());
  test_.scheduler->advance(1h);
  EXPECT_TRUE(read(range(30, 10)).ok());
  EXPECT_EQ(asked_registry, 3);
  EXPECT_EQ(source_->link().first_byte.count() > 0, true);
}

TEST_F(BlobSourceTest, AStorageThatRefusesFreshUrlsIsNotAskedForever) {
  registry_.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    if (!request.path.starts_with("/v2/")) return FakeResponse{.status = 403};
    return FakeResponse{
        .status = 307,
        .headers = {{"Location", registry_.server().other_url("/storage?sig=s3cret")}}};
  });
  const Status status = read(range(0, 10));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::unavailable);
  EXPECT_THAT(status.error().message, HasSubstr("/storage"));
  EXPECT_THAT(status.error().message, Not(HasSubstr("s3cret")));
}

TEST_F(BlobSourceTest, CancelInOnDataStopsIt) {
  auto sink = std::make_shared<SinkProbe>();
  std::promise<ReadId> id;
  auto known = id.get_future().share();
  sink->react = [&](SinkProbe& self) {
    source_->cancel(known.get());
    self.react = [](SinkProbe&) { ADD_FAILURE() << "data after cancel"; };
  };
  id.set_value(source_->read(range(0, content_.size()), sink));
  EXPECT_EQ(sink->wait().error().code, Code::cancelled);
  source_->cancel(known.get());
}

TEST_F(BlobSourceTest, CancelWhileWaitingForARetry) {
  // A policy that would wait; cancelled from the first refusal on.
  std::promise<void> refused;
  registry_.set_fault([&](const FakeRequest&, int count) {
    if (count == 1) refused.set_value();
    return std::optional(FakeResponse{.status = 503});
  });
  auto sink = std::make_shared<SinkProbe>();
  const ReadId id = source_->read(range(0, 10), sink);
  refused.get_future().wait();
  source_->cancel(id);
  const Status status = sink->wait();
  ASSERT_FALSE(status.ok());
}

TEST_F(BlobSourceTest, ReaderDeliversInOrderWithAShortQueue) {
  for (const size_t queue : {size_t{1}, size_t{100'000}, size_t{4 << 20}}) {
    BlobReader reader(source_, digest_, content_.size(), 5, {.queue_bytes = queue});
    std::string got;
    Bytes buffer(33'333);
    for (;;) {
      auto n = reader.read(buffer);
      ASSERT_TRUE(n.ok()) << n.error().message;
      if (*n == 0) break;
      got.append(as_text(std::span(buffer).first(*n)));
    }
    EXPECT_TRUE(got == content_.substr(5));
    EXPECT_EQ(*reader.read(buffer), 0u);
  }
}

TEST_F(BlobSourceTest, ReaderResumesAndReportsFailure) {
  std::atomic<bool> broken{false};
  registry_.set_fault([&](const FakeRequest& request, int count) {
    if (broken) return std::optional(FakeResponse{.status = 503});
    FakeResponse response = FakeRegistry::serve(content_, request);
    if (count < 4) {
      response.claimed_length = response.body.size();
      response.body.resize(response.body.size() / 2);
      response.end = FakeResponse::End::close;
    }
    return std::optional(response);
  });
  auto drain = [&](BlobReader& reader) -> Result<std::string> {
    std::string got;
    Bytes buffer(10'000);
    for (;;) {
      ASSIGN_OR_RETURN(const size_t n, reader.read(buffer));
      if (n == 0) return got;
      got.append(as_text(std::span(buffer).first(n)));
    }
  };
  BlobReader reader(source_, digest_, content_.size());
  const auto got = drain(reader);
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_TRUE(*got == content_);
  broken = true;
  BlobReader failing(source_, digest_, content_.size());
  EXPECT_EQ(drain(failing).error().code, Code::unavailable);
  BlobReader stopped(source_, digest_, content_.size());
  stopped.cancel();
  EXPECT_EQ(drain(stopped).error().code, Code::cancelled);
}

TEST_F(BlobSourceTest, AnAbandonedReaderLeavesNothingBehind) {
  { BlobReader reader(source_, digest_, content_.size(), 0, {.queue_bytes = 1}); }
  EXPECT_TRUE(read(range(0, 10)).ok());
}

TEST(VerifyingStream, FindsWrongContentAndLength) {
  class Text : public ByteStream {
   public:
    explicit Text(std::string text) : text_(std::move(text)) {}
    Result<size_t> read(std::span<uint8_t> out) override {
      const size_t n = std::min(out.size(), text_.size());
      std::copy_n(text_.begin(), n, out.begin());
      text_.erase(0, n);
      return n;
    }

   private:
    std::string text_;
  };
  const oci::Digest digest = oci::Digest::of(as_bytes("hello"));
  auto outcome = [&](const std::string& text, uint64_t size) -> Status {
    VerifyingStream stream(std::make_unique<Text>(text), digest, size);
    Bytes buffer(3);
    for (;;) {
      ASSIGN_OR_RETURN(const size_t n, stream.read(buffer));
      if (n == 0) return {};
    }
  };
  EXPECT_TRUE(outcome("hello", 5).ok());
  EXPECT_FALSE(outcome("hellO", 5).ok());
  EXPECT_FALSE(outcome("hell", 5).ok());
  EXPECT_FALSE(outcome("hello!", 5).ok());
  EXPECT_FALSE(outcome("hello", 6).ok());
}

class LayoutBlobsTest : public ::testing::Test {
 protected:
  LayoutBlobsTest() : dir_(*TempDir::make("layout-blobs")), content_(pattern(1'000'000)) {
    digest_ = oci::Digest::of(as_bytes(content_));
    EXPECT_TRUE(make_dirs(dir_.path() / "blobs/sha256").ok());
    EXPECT_TRUE(
        replace_file(dir_.path() / "blobs/sha256" / digest_.hex(), as_bytes(content_)).ok());
    source_ = make_layout_blob_source(dir_.path());
  }
  TempDir dir_;
  std::string content_;
  oci::Digest digest_;
  std::shared_ptr<BlobSource> source_;
};

TEST_F(LayoutBlobsTest, ReadsRanges) {
  for (const auto& [offset, length] : std::vector<std::pair<uint64_t, uint64_t>>{
           {0, 1}, {0, 1'000'000}, {999'999, 1}, {12'345, 700'000}}) {
    auto sink = std::make_shared<SinkProbe>();
    source_->read({.digest = digest_, .blob_size = 1'000'000, .offset = offset, .length = length},
                  sink);
    ASSERT_TRUE(sink->wait().ok());
    EXPECT_TRUE(sink->bytes == content_.substr(offset, length));
  }
}

TEST_F(LayoutBlobsTest, PausesAndCancels) {
  auto sink = std::make_shared<SinkProbe>();
  std::promise<ReadId> id;
  auto known = id.get_future().share();
  std::promise<void> first;
  sink->react = [&](SinkProbe& self) {
    source_->pause(known.get());
    first.set_value();
    self.react = [](SinkProbe&) { ADD_FAILURE() << "data while paused"; };  // ends this one
  };
  id.set_value(source_->read(
      {.digest = digest_, .blob_size = 1'000'000, .offset = 0, .length = 1'000'000}, sink));
  first.get_future().wait();
  // Another read passes the paused one.
  auto other = std::make_shared<SinkProbe>();
  source_->read({.digest = digest_, .blob_size = 1'000'000, .offset = 5, .length = 5}, other);
  EXPECT_TRUE(other->wait().ok());
  source_->cancel(known.get());
  EXPECT_EQ(sink->wait().error().code, Code::cancelled);
}

TEST_F(LayoutBlobsTest, MissingAndWrongSizedBlobs) {
  auto sink = std::make_shared<SinkProbe>();
  source_->read({.digest = oci::Digest::of({}), .blob_size = 10, .offset = 0, .length = 1}, sink);
  EXPECT_EQ(sink->wait().error().code, Code::not_found);
  sink = std::make_shared<SinkProbe>();
  source_->read({.digest = digest_, .blob_size = 10, .offset = 0, .length = 1}, sink);
  EXPECT_EQ(sink->wait().error().code, Code::corrupt_input);
}

}  // namespace
}  // namespace pagein::registry
