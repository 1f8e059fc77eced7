#include "codec/inflate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "codec/codec_testing.h"

namespace pagein::codec {
namespace {

using testing::Content;
using testing::Deflate;

struct Outcome {
  bool valid = false;
  Bytes bytes;
  uint64_t bit_position = 0;
  std::string error;
  std::vector<uint64_t> boundaries;  // bit positions
};

enum class Cut { whole, bytes, random };

Outcome inflate_all(ByteView data, Cut cut, uint32_t seed = 1) {
  std::mt19937 random(seed);
  auto inflater = std::make_unique<Inflater>();
  OutputBuffer out(kWindowBytes + 1 + random() % 100000);
  BitInput in;
  Outcome outcome;
  const uint8_t* taken = out.next;
  const auto take = [&] {
    outcome.bytes.insert(outcome.bytes.end(), taken, static_cast<const uint8_t*>(out.next));
    taken = out.next;
  };
  for (size_t at = 0;;) {
    auto event = inflater->run(in, out, out.limit_end);
    if (!event.ok()) {
      EXPECT_EQ(event.error().code, Code::corrupt_input);
      outcome.error = event.error().message;
      return outcome;
    }
    switch (*event) {
      case Inflater::Event::need_input: {
        EXPECT_EQ(in.next, in.end);
        if (at == data.size()) return outcome;
        size_t n = cut == Cut::whole ? data.size() : cut == Cut::bytes ? 1 : random() % 50;
        n = std::min(n, data.size() - at);
        // A copy of its own, so that a sanitizer sees reads beyond the piece.
        static thread_local std::vector<uint8_t> piece;
        piece = std::vector<uint8_t>(data.begin() + static_cast<ptrdiff_t>(at),
                                     data.begin() + static_cast<ptrdiff_t>(at + n));
        piece.shrink_to_fit();
        in.set_piece(piece);
        at += n;
        break;
      }
      case Inflater::Event::output_limit:
        take();
        out.slide(out.next - kWindowBytes);
        taken = out.next;
        break;
      case Inflater::Event::block_boundary: outcome.boundaries.push_back(in.bit_position()); break;
      case Inflater::Event::end:
        take();
        outcome.valid = true;
        outcome.bit_position = in.bit_position();
        return outcome;
    }
  }
}

void expect_round_trip(ByteView data, const Bytes& raw, const std::string& what) {
  for (const Cut cut : {Cut::whole, Cut::random}) {
    const Outcome outcome = inflate_all(raw, cut, static_cast<uint32_t>(raw.size()));
    ASSERT_TRUE(outcome.valid) << what << ": " << outcome.error;
    ASSERT_TRUE(outcome.bytes.size() == data.size() &&
                std::equal(data.begin(), data.end(), outcome.bytes.begin()))
        << what;
    EXPECT_EQ((outcome.bit_position + 7) / 8, raw.size()) << what;
  }
}

TEST(Inflate, DecodesEveryLevelAndStrategyOfZlib) {
  for (const Content content :
       {Content::text, Content::random, Content::zeros, Content::records, Content::mixed}) {
    const Bytes data = testing::make_content(content, 150000, 7);
    for (const int strategy : {Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE, Z_FIXED}) {
      for (const int level : {0, 1, 4, 6, 9}) {
        const Bytes raw =
            testing::compress(data, {.level = level, .strategy = strategy, .window_bits = -15});
        expect_round_trip(data, raw,
                          "content " + std::to_string(static_cast<int>(content)) + " level " +
                              std::to_string(level) + " strategy " + std::to_string(strategy));
      }
    }
  }
}

TEST(Inflate, DecodesFlushesAndSmallMemories) {
  const Bytes data = testing::make_content(Content::mixed, 200000, 11);
  for (const int flush : {Z_SYNC_FLUSH, Z_FULL_FLUSH, Z_PARTIAL_FLUSH, Z_BLOCK}) {
    for (const size_t every : {size_t{1}, size_t{100}, size_t{5000}}) {
      const ByteView part = ByteView(data).first(every == 1 ? 3000 : data.size());
      const Bytes raw = testing::compress(
          part, {.memory = 1, .window_bits = -15, .flush = flush, .flush_every = every});
      expect_round_trip(part, raw, "flush " + std::to_string(flush));
    }
  }
}

TEST(Inflate, DecodesLibdeflate) {
  const Bytes data = testing::make_content(Content::mixed, 300000, 13);
  for (int level = 0; level <= 12; ++level) {
    const Bytes gz = testing::compress_libdeflate(data, level);
    const ByteView raw = ByteView(gz).subspan(10, gz.size() - 18);
    expect_round_trip(data, Bytes(raw.begin(), raw.end()), "level " + std::to_string(level));
  }
}

TEST(Inflate, TakesAByteAtATime) {
  const Bytes data = testing::make_content(Content::mixed, 60000, 17);
  const Bytes raw = testing::compress(data, {.window_bits = -15});
  const Outcome outcome = inflate_all(raw, Cut::bytes);
  ASSERT_TRUE(outcome.valid) << outcome.error;
  EXPECT_EQ(outcome.bytes, data);
}

TEST(Inflate, DecodesNothing) {
  const Outcome outcome = inflate_all(testing::compress({}, {.window_bits = -15}), Cut::whole);
  EXPECT_TRUE(outcome.valid);
  EXPECT_TRUE(outcome.bytes.empty());
}

TEST(Inflate, StopsAtTheSameBoundariesHoweverTheInputIsCut) {
  const Bytes data = testing::make_content(Content::mixed, 400000, 19);
  const Bytes raw = testing::compress(data, {.memory = 4, .window_bits = -15});
  const Outcome whole = inflate_all(raw, Cut::whole);
  EXPECT_GT(whole.boundaries.size(), 10U);
  for (uint32_t seed = 0; seed < 5; ++seed) {
    EXPECT_EQ(inflate_all(raw, Cut::random, seed).boundaries, whole.boundaries);
  }
}

TEST(Inflate, AgreesWithZlibOnTruncatedAndDamagedData) {
  std::mt19937 random(23);
  for (int round = 0; round < 400; ++round) {
    const Bytes data = testing::make_content(static_cast<Content>(round % 5), 1 + random() % 6000,
                                             static_cast<uint32_t>(round));
    Bytes raw = testing::compress(data, {.level = static_cast<int>(random() % 10),
                                         .strategy = static_cast<int>(random() % 5),
                                         .window_bits = -15});
    if (round % 4 == 0) {
      raw.resize(random() % raw.size());
    } else {
      for (unsigned flips = 1 + random() % 3; flips > 0; --flips) {
        // Headers deserve most of it.
        const size_t at =
            random() % (random() % 2 == 0 ? std::min<size_t>(raw.size(), 80) : raw.size());
        raw[at] ^= static_cast<uint8_t>(1U << random() % 8);
      }
    }
    const testing::Inflated expected = testing::zlib_inflate_raw(raw);
    const Outcome outcome = inflate_all(raw, round % 2 == 0 ? Cut::whole : Cut::random, 3);
    ASSERT_EQ(outcome.valid, expected.valid) << "round " << round << ": " << outcome.error;
    if (expected.valid) {
      ASSERT_EQ(outcome.bytes, expected.bytes) << "round " << round;
      EXPECT_EQ((outcome.bit_position + 7) / 8, expected.used);
    }
  }
}

Outcome inflate_hex(std::initializer_list<uint8_t> bytes) {
  return inflate_all(Bytes(bytes), Cut::whole);
}

TEST(Inflate, SaysWhatIsWrong) {
  using ::testing::HasSubstr;
  EXPECT_THAT(inflate_hex({0x07}).error, HasSubstr("reserved type"));
  EXPECT_THAT(inflate_hex({0x01, 0x05, 0x00, 0x00, 0x00}).error, HasSubstr("length fails"));
  // 287 literals and lengths.
  EXPECT_THAT(inflate_hex({0xf5, 0x00, 0x00}).error, HasSubstr("too many symbols"));
  // Fixed: a match (length 3, distance 1) before any literal.
  EXPECT_THAT(inflate_hex({0x03, 0x02, 0x00, 0x00}).error, HasSubstr("reaches back"));
}

TEST(Inflate, GoesOnInsideABlock) {
  const Bytes data = testing::make_content(Content::text, 300000, 29);
  for (const int strategy : {Z_DEFAULT_STRATEGY, Z_FIXED}) {
    for (const int level : {0, 6}) {
      const Bytes raw = testing::compress(
          data, {.level = level, .strategy = strategy, .memory = 9, .window_bits = -15});
      auto first = std::make_unique<Inflater>();
      OutputBuffer out(data.size());
      BitInput in;
      in.set_piece(raw);
      Inflater::Event event = Inflater::Event::need_input;
      do {
        event = *first->run(in, out, out.data() + 100001, Inflater::Tail::exact);
      } while (event != Inflater::Event::output_limit);
      ASSERT_TRUE(first->in_block());
      EXPECT_LE(out.next - out.data(), 100001 + 257);

      auto second = std::make_unique<Inflater>();
      ASSERT_TRUE(second->start(first->block_state()).ok());
      do {
        event = *second->run(in, out, out.limit_end);
      } while (event == Inflater::Event::block_boundary);
      EXPECT_TRUE(event == Inflater::Event::end || event == Inflater::Event::output_limit);
      EXPECT_TRUE(std::equal(data.begin(), data.end(), out.data()));
    }
  }
}

}  // namespace
}  // namespace pagein::codec
