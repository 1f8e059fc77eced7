#include "store/presence.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <memory>

#include "base/file.h"

namespace pagein::store {
namespace {

class PresenceFile : public testing::Test {
 protected:
  static std::unique_ptr<Presence> sample(size_t spans) {
    auto presence = std::make_unique<Presence>(spans);
    for (size_t i = 0; i < spans; i += 3) presence->set(i);
    return presence;
  }
  void save(const Presence& presence, Presence::Stop stop) {
    ASSERT_TRUE(Presence::save(path_, presence.size(), presence.snapshot(), stop).ok());
  }
  Bytes bytes() {
    const std::string text = read_file(path_).value();
    return {text.begin(), text.end()};
  }
  Code load_error(size_t spans, const Bytes& content) {
    std::ofstream(path_, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()),
               static_cast<std::streamsize>(content.size()));
    Presence presence(spans);
    const auto loaded = presence.load(path_);
    EXPECT_FALSE(loaded.ok());
    EXPECT_EQ(presence.count(), 0u);
    return loaded.ok() ? Code::internal : loaded.error().code;
  }

  TempDir dir_ = TempDir::make("presence-").value();
  std::filesystem::path path_ = dir_.path() / "present";
};

TEST(Presence, CountsEachSpanOnce) {
  Presence presence(130);
  EXPECT_FALSE(presence.full());
  presence.set(0);
  presence.set(129);
  presence.set(129);
  EXPECT_EQ(presence.count(), 2u);
  EXPECT_TRUE(presence.test(129));
  EXPECT_FALSE(presence.test(128));
  presence.drop(129);
  presence.drop(129);
  EXPECT_EQ(presence.count(), 1u);
  for (size_t i = 0; i < 130; ++i) presence.set(i);
  EXPECT_TRUE(presence.full());
  EXPECT_TRUE(Presence(0).full());
}

TEST(Presence, FindsTheFirstGap) {
  Presence presence(200);
  EXPECT_EQ(presence.first_missing(0, 200), 0u);
  for (size_t i = 0; i < 128; ++i) presence.set(i);
  EXPECT_EQ(presence.first_missing(0, 200), 128u);
  EXPECT_EQ(presence.first_missing(5, 100), 100u);
  EXPECT_EQ(presence.first_missing(130, 200), 130u);
  EXPECT_EQ(presence.first_missing(7, 7), 7u);
  for (size_t i = 128; i < 200; ++i) presence.set(i);
  EXPECT_EQ(presence.first_missing(3, 200), 200u) << "bits behind the last span are none";
}

TEST_F(PresenceFile, LoadsWhatWasSaved) {
  for (const size_t spans : {0, 1, 63, 64, 65, 1000}) {
    for (const auto stop : {Presence::Stop::clean, Presence::Stop::unclean}) {
      const auto before = sample(spans);
      save(*before, stop);
      Presence after(spans);
      const auto loaded = after.load(path_);
      ASSERT_TRUE(loaded.ok()) << loaded.error().message;
      EXPECT_EQ(*loaded, stop);
      EXPECT_EQ(after.snapshot(), before->snapshot());
      EXPECT_EQ(after.count(), before->count());
    }
  }
}

TEST_F(PresenceFile, RefusesAnotherSize) {
  save(*sample(100), Presence::Stop::clean);
  const Bytes good = bytes();
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_EQ(load_error(100, Bytes(good.begin(), good.begin() + static_cast<ptrdiff_t>(size))),
              Code::corrupt_input);
  }
  Bytes longer = good;
  longer.push_back(0);
  EXPECT_EQ(load_error(100, longer), Code::corrupt_input);
  EXPECT_EQ(load_error(99, good), Code::corrupt_input) << "of a layer with other spans";
  EXPECT_EQ(load_error(64, good), Code::corrupt_input);
  EXPECT_EQ(load_error(1000, good), Code::corrupt_input);
}

TEST_F(PresenceFile, RefusesEveryFlippedBit) {
  save(*sample(70), Presence::Stop::clean);
  const Bytes good = bytes();
  for (size_t bit = 0; bit < good.size() * 8; ++bit) {
    Bytes flipped = good;
    flipped[bit / 8] ^= static_cast<uint8_t>(1 << (bit % 8));
    EXPECT_EQ(load_error(70, flipped), Code::corrupt_input) << "bit " << bit;
  }
}

TEST_F(PresenceFile, RefusesAnotherVersion) {
  save(*sample(70), Presence::Stop::clean);
  Bytes next = bytes();
  next[8] = 2;
  EXPECT_EQ(load_error(70, next), Code::corrupt_input);
}

TEST_F(PresenceFile, MissingIsNotFound) {
  Presence presence(7);
  EXPECT_EQ(presence.load(dir_.path() / "none").error().code, Code::not_found);
}

// docs/formats/store.md shows these bytes.
TEST_F(PresenceFile, Golden) {
  Presence presence(10);
  for (const size_t span : {0, 1, 2, 9}) presence.set(span);
  save(presence, Presence::Stop::clean);
  std::string hex;
  for (const uint8_t byte : bytes()) {
    char text[3];
    std::snprintf(text, sizeof text, "%02x", byte);
    hex += text;
  }
  EXPECT_EQ(hex,
            "5047494e50524553"    // "PGINPRES"
            "01000000"            // version
            "01000000"            // stopped cleanly
            "0a00000000000000"    // spans
            "96410446926d4b6d"    // checksum
            "0702000000000000");  // spans 0, 1, 2 and 9
}

}  // namespace
}  // namespace pagein::store
