#include <gtest/gtest.h>
#include <zstd.h>

#include "base/byte_reader.h"
#include "oci/annotations.h"
#include "startup/pack_decoder.h"
#include "startup/pack_format.h"
#include "startup/pack_head.h"
#include "startup/pack_location.h"
#include "startup/piece_encoder.h"
#include "startup/trace.h"

namespace pagein::startup {
namespace {

oci::Digest digest_of(std::string_view text) { return oci::Digest::of(as_bytes(text)); }

PackHead sample_head() {
  PackHead head;
  head.diff_ids = {digest_of("a"), digest_of("b")};
  head.pieces = {{0, 3, 2, 100}, {1, 0, 1, 0}, {0, 0, 3, 7}};
  return head;
}

TEST(PackHead, RoundTrip) {
  PackHead head = sample_head();
  const Bytes bytes = write_pack_head(&head).value();
  EXPECT_EQ(bytes.size(), 32u + 2 * 32 + 3 * 16);
  EXPECT_EQ(head.head_size, bytes.size());
  const PackHead again = parse_pack_head(bytes).value();
  EXPECT_EQ(again.diff_ids, head.diff_ids);
  EXPECT_EQ(again.pieces, head.pieces);
  EXPECT_EQ(again.blob_size(), bytes.size() + 107);
}

TEST(PackHead, EmptyIsAllowed) {
  PackHead head;
  const Bytes bytes = write_pack_head(&head).value();
  EXPECT_TRUE(parse_pack_head(bytes).ok());
}

// H1 to H4, at the writer; the parser has the same checks and the fuzzer.
TEST(PackHead, RefusesWhatBreaksItsInvariants) {
  const std::vector<std::function<void(PackHead&)>> breaks = {
      [](PackHead& head) { head.diff_ids[1] = head.diff_ids[0]; },               // H1
      [](PackHead& head) { head.diff_ids.push_back(digest_of("c")); },           // H1
      [](PackHead& head) { head.pieces[0].layer = 1; },                          // H1
      [](PackHead& head) { head.pieces[1].layer = 2; },                          // H1
      [](PackHead& head) { head.pieces[1].span_count = 0; },                     // H2
      [](PackHead& head) { head.pieces[1].span_count = kMaxSpanNumber + 1; },    // H2
      [](PackHead& head) { head.pieces[1].first_span = UINT32_MAX; },            // H2
      [](PackHead& head) { head.pieces[2].span_count = 4; },                     // H3
      [](PackHead& head) { head.pieces[0].stored_size = kMaxStoredPiece + 1; },  // H4
  };
  for (size_t i = 0; i < breaks.size(); ++i) {
    PackHead head = sample_head();
    breaks[i](head);
    EXPECT_FALSE(write_pack_head(&head).ok()) << i;
  }
}

TEST(PackHead, RefusesOtherBytes) {
  PackHead head = sample_head();
  const Bytes good = write_pack_head(&head).value();
  for (const size_t at : {0, 8, 12, 16, 20, 24}) {
    Bytes bad = good;
    bad[at] ^= 1;
    EXPECT_FALSE(parse_pack_head(bad).ok()) << at;
  }
  Bytes newer = good;
  newer[8] = 2;
  EXPECT_EQ(parse_pack_head(newer).error().code, Code::unsupported);
  Bytes longer = good;
  longer.push_back(0);
  EXPECT_FALSE(parse_pack_head(longer).ok());
  EXPECT_FALSE(parse_pack_head(ByteView(good).first(good.size() - 1)).ok());
}

TEST(Piece, DecodesToItsSpans) {
  PieceEncoder encoder(3);
  PieceDecoder decoder;
  for (const std::string& text : {std::string("x"), std::string(300'000, 'y') + "end"}) {
    const ByteView frame = encoder.encode(as_bytes(text)).value();
    const uint64_t sizes[] = {text.size() / 2, text.size() - text.size() / 2};
    const auto spans = decoder.decode(frame, sizes).value();
    ASSERT_EQ(spans.size(), 2u);
    EXPECT_EQ(std::string(as_text(spans[0])) + std::string(as_text(spans[1])), text);
  }
  EXPECT_FALSE(encoder.encode({}).ok());
  EXPECT_FALSE(encoder.encode(Bytes(kMaxPieceBytes + 1)).ok());
}

// The longest piece at the highest level keeps to a node's window.
TEST(Piece, LongestPiece) {
  Bytes tar(kMaxPieceBytes);
  for (size_t i = 0; i < tar.size(); ++i) tar[i] = static_cast<uint8_t>((i * i) >> 13);
  PieceEncoder encoder(19);
  const ByteView frame = encoder.encode(tar).value();
  const uint64_t sizes[] = {tar.size()};
  EXPECT_TRUE(std::ranges::equal(PieceDecoder().decode(frame, sizes).value()[0], tar));
}

TEST(Piece, RefusesOtherFrames) {
  PieceEncoder encoder(3);
  PieceDecoder decoder;
  const ByteView view = encoder.encode(as_bytes("hello, hello, hello, hello")).value();
  const Bytes frame(view.begin(), view.end());
  const uint64_t right[] = {26};
  const uint64_t wrong[] = {25};
  const uint64_t huge[] = {kMaxPieceBytes, UINT64_MAX};
  EXPECT_TRUE(decoder.decode(frame, right).ok());
  EXPECT_FALSE(decoder.decode(frame, wrong).ok());
  EXPECT_FALSE(decoder.decode(frame, huge).ok());
  EXPECT_FALSE(decoder.decode(ByteView(frame).first(frame.size() - 1), right).ok());
  Bytes two = frame;
  two.insert(two.end(), frame.begin(), frame.end());
  EXPECT_FALSE(decoder.decode(two, right).ok());
  const Bytes skippable = {0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0};
  EXPECT_FALSE(decoder.decode(skippable, right).ok());
  EXPECT_FALSE(decoder.decode({}, right).ok());
}

TEST(PackLocation, RoundTrip) {
  const PackLocation location{digest_of("pack"), 5000, 200, digest_of("head")};
  oci::Manifest manifest;
  EXPECT_FALSE(parse_pack_location(manifest.annotations).has_value());
  set_pack_location(&manifest, location);
  EXPECT_EQ(parse_pack_location(manifest.annotations), location);
  const std::string key(oci::annotation::kStartupHeadSize);
  for (const char* bad : {"", "x", "31", "5001", "-1"}) {
    manifest.annotations[key] = bad;
    EXPECT_FALSE(parse_pack_location(manifest.annotations).has_value()) << bad;
  }
  manifest.annotations.erase(key);
  EXPECT_FALSE(parse_pack_location(manifest.annotations).has_value());
}

Trace sample_trace() {
  return {
      "example.org/a:1", digest_of("manifest"),
      "linux/amd64",     1234,
      "http:\"8080\"",   {{digest_of("a"), 512, 4096, 3}, {digest_of("b"), UINT64_MAX - 1, 1, 7}}};
}

TEST(Trace, RoundTrip) {
  const std::string text = write_trace(sample_trace());
  EXPECT_EQ(parse_trace(as_bytes(text)).value(), sample_trace());
  Trace empty;
  EXPECT_EQ(parse_trace(as_bytes(write_trace(empty))).value(), empty);
}

TEST(Trace, PassesOverUnknownMembers) {
  const std::string diff_id = digest_of("a").str();
  const std::string text =
      R"({"new":{"reads":[{"offset":1}],"version":9},"version":1,"reads":[{"x":[1,{"offset":5}],"diff_id":")" +
      diff_id + R"(","offset":2,"length":3}],"more":[[1.5]]})";
  const Trace trace = parse_trace(as_bytes(text)).value();
  ASSERT_EQ(trace.reads.size(), 1u);
  EXPECT_EQ(trace.reads[0], (TraceRead{digest_of("a"), 2, 3, 0}));
}

TEST(Trace, RefusesOthers) {
  const std::string diff_id = digest_of("a").str();
  const auto read = [&](const std::string& members) {
    return R"({"version":1,"reads":[{"diff_id":")" + diff_id + "\"" + members + "}]}";
  };
  EXPECT_TRUE(parse_trace(as_bytes(read(R"(,"offset":1,"length":1)"))).ok());
  for (const std::string& text :
       {std::string(), std::string("[]"), std::string("{}"), std::string(R"({"version":"1"})"),
        std::string(R"({"version":1,"reads":[{"offset":1,"length":1}]})"),
        std::string(R"({"version":1,"reads":[{"diff_id":"sha256:1","length":1}]})"), read(""),
        read(R"(,"offset":-1,"length":1)"), read(R"(,"offset":1.5,"length":1)"),
        read(R"(,"offset":18446744073709551615,"length":1)"), std::string(R"({"version":1)"),
        std::string(R"({"version":1}x)"), "{\"version\":1,\"x\":" + std::string(1000, '[')}) {
    EXPECT_FALSE(parse_trace(as_bytes(text)).ok()) << text;
  }
  EXPECT_EQ(parse_trace(as_bytes(R"({"version":2})")).error().code, Code::unsupported);
}

}  // namespace
}  // namespace pagein::startup
