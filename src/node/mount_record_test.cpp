#include "node/mount_record.h"

#include <gtest/gtest.h>

namespace pagein::node {
namespace {

ImageRecord sample() {
  ImageRecord record;
  record.layers = {"aa", "bb"};
  record.below = {"/var/lib/x/1/fs"};
  record.name = "r.example/app:1";
  MountRecord first;
  first.generation = 1;
  first.local = {true, false};
  first.holders = {"snapshot-4", "manual-7"};
  first.state.needs_daemon = true;
  first.state.engine = mount::EngineKind::fuse;
  first.state.fuse.protocol_minor = 41;
  first.state.fuse.init_flags = UINT64_MAX;
  first.state.fuse.connection = 77;
  MountRecord second;
  second.generation = 5;
  second.local = {true, true};
  record.mounts = {first, second};
  return record;
}

TEST(MountRecord, RoundTrip) {
  const std::string text = format_image_record(sample());
  const auto parsed = parse_image_record(text);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(format_image_record(*parsed), text);
  EXPECT_EQ(parsed->mounts[0].holders, sample().mounts[0].holders);
  EXPECT_EQ(parsed->mounts[0].state.fuse.init_flags, UINT64_MAX);
  EXPECT_EQ(parsed->mounts[0].state.engine, mount::EngineKind::fuse);
  EXPECT_EQ(parsed->mounts[1].local, (std::vector<bool>{true, true}));
}

TEST(MountRecord, NamesThatAreNoTextsDoNotThrow) {
  ImageRecord record = sample();
  record.name = "bad\xff";
  EXPECT_TRUE(parse_image_record(format_image_record(record)).ok());
}

TEST(MountRecord, EveryCutIsRefused) {
  const std::string text = format_image_record(sample());
  for (size_t size = 0; size + 2 < text.size(); ++size) {
    EXPECT_FALSE(parse_image_record(text.substr(0, size)).ok()) << size;
  }
}

TEST(MountRecord, RefusesWhatDoesNotFit) {
  const std::string good = format_image_record(sample());
  auto refused = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    if (at == std::string::npos) return false;
    text.replace(at, from.size(), to);
    const auto parsed = parse_image_record(text);
    return !parsed.ok() && parsed.error().code == Code::corrupt_input;
  };
  EXPECT_TRUE(refused("\"version\": 1", "\"version\": 2"));
  EXPECT_TRUE(refused("\"bb\"", "7"));
  EXPECT_TRUE(refused("\"bb\"", "\"bb\", \"cc\"")) << "local does not fit any more";
  EXPECT_TRUE(refused("\"generation\": 5", "\"generation\": 1")) << "two of one number";
  EXPECT_TRUE(refused("\"generation\": 1", "\"generation\": 6")) << "not in order";
  EXPECT_TRUE(refused("\"generation\": 1", "\"generation\": 0"));
  EXPECT_TRUE(refused("\"generation\": 5", "\"generation\": 18446744073709551615"));
  EXPECT_TRUE(refused("\"generation\": 5", "\"generation\": -5"));
  EXPECT_TRUE(refused("\"connection\": 77", "\"connection\": 77777777777"));
  EXPECT_TRUE(refused("\"needs_daemon\": true", "\"needs_daemon\": 1"));
  EXPECT_TRUE(refused("\"engine\": \"fuse\"", "\"engine\": \"ext4\""));
  EXPECT_TRUE(refused("\"engine\": \"fuse\"", "\"engine\": 3"));
}

TEST(MountRecord, ARecordOfTheTimeOfOneEngineIsErofs) {
  std::string text = format_image_record(sample());
  for (const std::string line : {"   \"engine\": \"fuse\",\n", "   \"engine\": \"erofs\",\n"}) {
    const size_t at = text.find(line);
    ASSERT_NE(at, std::string::npos) << text;
    text.erase(at, line.size());
  }
  const auto parsed = parse_image_record(text);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(parsed->mounts[0].state.engine, mount::EngineKind::erofs);
}

}  // namespace
}  // namespace pagein::node
