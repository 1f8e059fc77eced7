#include "convert/chunk_cutter.h"

#include <gtest/gtest.h>

#include <random>

namespace pagein::convert {
namespace {

constexpr uint64_t kTarget = 256 << 10;

struct File {
  uint64_t begin;
  uint64_t length;
};

// Headers before each file, padding behind it, as in a tar.
std::vector<File> files_of(const std::vector<uint64_t>& lengths, uint64_t headers = 512) {
  std::vector<File> files;
  uint64_t at = 0;
  for (const uint64_t length : lengths) {
    at += headers;
    files.push_back({at, length});
    at += (length + 511) / 512 * 512;
  }
  return files;
}

uint64_t end_of(const std::vector<File>& files) {
  return (files.back().begin + files.back().length + 511) / 512 * 512 + 1024;
}

// Reads in pieces of `piece` bytes.
std::vector<uint64_t> cuts_of(const std::vector<File>& files, uint64_t piece = UINT64_MAX) {
  ChunkCutter cutter(kTarget);
  std::vector<uint64_t> cuts;
  size_t next = 0;
  const uint64_t end = end_of(files);
  for (uint64_t at = 0; at < end;) {
    at += std::min(piece, end - at);
    while (next < files.size() && files[next].begin <= at) {
      cutter.on_content(files[next].begin, files[next].length);
      ++next;
    }
    cutter.on_read(at);
    for (const uint64_t cut : cutter.take_cuts()) {
      EXPECT_LE(cut, at);
      cuts.push_back(cut);
    }
  }
  return cuts;
}

TEST(ChunkCutter, SmallFilesShareChunksAndAreNotSplit) {
  std::mt19937 random(1);
  std::vector<uint64_t> lengths;
  for (int i = 0; i < 3000; ++i)
    lengths.push_back(1 + random() % (random() % 9 == 0 ? kTarget : 9000));
  const auto files = files_of(lengths);
  const auto cuts = cuts_of(files);
  ASSERT_GT(cuts.size(), 20U);
  uint64_t last = 0;
  for (const uint64_t cut : cuts) {
    EXPECT_GE(cut - last, kTarget / 2);
    EXPECT_LE(cut - last, kTarget * 3 / 2);
    last = cut;
    for (const File& file : files) {
      EXPECT_FALSE(file.begin < cut && cut < file.begin + file.length) << cut;
    }
  }
}

TEST(ChunkCutter, LongFilesAreCutAtMultiplesOfTheTarget) {
  const auto files = files_of({200'000, 10 * kTarget + 1000, 5000, 3 * kTarget - 7, kTarget + 1});
  const auto cuts = cuts_of(files);
  std::vector<uint64_t> expected = {files[1].begin};
  // The last 1000 bytes go with the piece before them.
  for (uint64_t i = 1; i < 10; ++i) expected.push_back(files[1].begin + i * kTarget);
  expected.push_back(files[2].begin);
  // What is before a long file and too short for a chunk goes with its first piece.
  for (uint64_t i = 1; i < 3; ++i) expected.push_back(files[3].begin + i * kTarget);
  expected.push_back(files[4].begin);
  EXPECT_EQ(cuts, expected);
}

TEST(ChunkCutter, PiecesDoNotMatter) {
  std::mt19937 random(2);
  std::vector<uint64_t> lengths;
  for (int i = 0; i < 400; ++i) {
    lengths.push_back(1 + random() % (random() % 20 == 0 ? 12 * kTarget : random() % 50'000 + 1));
  }
  for (const uint64_t headers : {512UL, 200'192UL, 3 * kTarget}) {
    const auto files = files_of(lengths, headers);
    const auto whole = cuts_of(files);
    for (const uint64_t piece : {512UL, 100'000UL, 1UL << 20}) {
      EXPECT_EQ(cuts_of(files, piece), whole) << piece;
    }
  }
}

TEST(ChunkCutter, ChunksAreBoundedWhateverTheTar) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; ++round) {
    std::vector<uint64_t> lengths;
    for (int i = 0; i < 30; ++i) lengths.push_back(1 + random() % (4 * kTarget));
    const auto files = files_of(lengths, 512 * (1 + random() % 3000));
    uint64_t last = 0;
    for (const uint64_t cut : cuts_of(files)) {
      ASSERT_GT(cut, last);
      ASSERT_LE(cut - last, 2 * kTarget);
      last = cut;
    }
    ASSERT_LE(end_of(files) - last, 2 * kTarget);
  }
}

TEST(ChunkCutter, NothingButHeaders) {
  ChunkCutter cutter(kTarget);
  cutter.on_read(5 * kTarget);
  EXPECT_EQ(cutter.take_cuts(), (std::vector<uint64_t>{2 * kTarget, 4 * kTarget}));
  cutter.on_read(6 * kTarget);
  EXPECT_TRUE(cutter.take_cuts().empty());
}

}  // namespace
}  // namespace pagein::convert
