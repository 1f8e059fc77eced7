#include "erofs/writer.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdio>
#include <fstream>

#include "base/sha256.h"
#include "erofs/dump.h"
#include "erofs/plan.h"
#include "erofs/reader.h"
#include "erofs/sample_trees.h"
#include "tree/dump.h"
#include "tree/layer_maker.h"
#include "tree/merge.h"

namespace pagein::erofs {
namespace {

namespace fs = std::filesystem;

struct Sample {
  const char* name;
  tree::Tree (*make)();
  const char* sha256;  // of the image
};

const Sample kSamples[] = {
    {"every_kind", every_kind, "d78f8254a9e6a2e1354af0b5c9d37ebfbf96715fcb74948e37447c90fd31e154"},
    {"large_directory", [] { return large_directory(5000); },
     "9eed172b87c011e9c229e81ea1b7220734f35f0177a9987207bf4000ac634a64"},
    {"long_names", long_names, "25a850b221f42acb4441b51f7233a6f0fc22cd4e1f58e09d87d42a61270dc356"},
    {"deep_tree", [] { return deep_tree(1000); },
     "c75a46d337555ce05ad8bee2eac407ecb283fa75049aa23e2001c16b88990c6a"},
    {"many_layers", [] { return many_layers(300); },
     "3e86db4e5d46d03565e5367d71dbb4f3e0998956fc3fb41127040ca52af9fa02"},
    {"sparse_files", sparse_files,
     "3f803a7f6d311bd8ca406b6c5a90079ea5f522e8855b97bdee805131c57c2057"},
    {"many_xattrs", many_xattrs,
     "be9a693f372736a59e60b0ee8538829d4e380f1e7abdaa46e9bd7c873d64971c"},
    {"over_layers", over_layers,
     "b372b41dcbf86ea78f7443d79ded595f50112ee7b08a5b3e56282e23f0bd4889"},
};

class SampleTest : public testing::TestWithParam<Sample> {};
INSTANTIATE_TEST_SUITE_P(All, SampleTest, testing::ValuesIn(kSamples),
                         [](const auto& sample) { return std::string(sample.param.name); });

Bytes write(const tree::Tree& tree) {
  auto image = write_metadata(tree, options_for(tree, {"tag"}));
  EXPECT_TRUE(image.ok()) << image.error().message;
  return image.ok() ? *std::move(image) : Bytes();
}

std::string hex(const Sha256Bytes& digest) {
  std::string out;
  for (const uint8_t b : digest) {
    char text[3];
    std::snprintf(text, sizeof text, "%02x", b);
    out += text;
  }
  return out;
}

TEST_P(SampleTest, ReadsBackAsTheTree) {
  const tree::Tree tree = GetParam().make();
  const Bytes image = write(tree);
  const auto reader = Reader::open(image);
  ASSERT_TRUE(reader.ok()) << reader.error().message;
  const auto text = dump(*reader);
  ASSERT_TRUE(text.ok()) << text.error().message;
  ASSERT_EQ(*text, tree::dump(tree));
}

// The bytes are part of the contract: a change of format changes docs/formats/erofs.md.
TEST_P(SampleTest, FindsEveryNameAndRunsAsListed) {
  const tree::Tree tree = GetParam().make();
  const Bytes image = write_metadata(tree, options_for(tree)).value();
  const Reader reader = Reader::open(image).value();
  for (tree::NodeId node = 0; node < tree.node_count(); ++node) {
    const auto path = tree.path(node);
    Reader::Inode at = reader.inode(reader.super().root_nid).value();
    for (size_t begin = 0; begin < path.size();) {
      const size_t end = std::min(path.find('/', begin), path.size());
      const auto entry = reader.find(at, path.substr(begin, end - begin)).value();
      ASSERT_TRUE(entry) << path;
      at = reader.inode(entry->nid).value();
      begin = end + 1;
    }
    if (S_ISDIR(at.mode)) {
      EXPECT_FALSE(reader.find(at, "no such name").value());
      std::vector<std::string_view> names;
      for (uint64_t block = 0;; ++block) {
        const auto entries = reader.list_block(at, block).value();
        if (entries.empty()) break;
        for (const auto& entry : entries) names.push_back(entry.name);
      }
      EXPECT_EQ(names.size(), reader.list(at).value().size());
    }
    if (!S_ISREG(at.mode) || at.size == 0) continue;
    uint64_t stored = 0;
    uint64_t next = 0;
    const auto extents = reader.extents(at).value();
    for (const auto& extent : extents) {
      if (extent.file_offset > next) {
        EXPECT_TRUE(reader.run_at(at, next, at.size).value().hole);
      }
      const auto run = reader.run_at(at, extent.file_offset, at.size).value();
      EXPECT_FALSE(run.hole);
      EXPECT_EQ(run.length, extent.length);
      EXPECT_EQ(run.device, extent.device);
      EXPECT_EQ(run.device_byte, extent.block * kBlock);
      EXPECT_EQ(reader.run_at(at, extent.file_offset + extent.length - 1, 1).value().length, 1u);
      next = extent.file_offset + extent.length;
      stored += (extent.length + kBlock - 1) / kBlock * kBlock;
    }
    EXPECT_EQ(reader.stored_bytes(at).value(), stored);
    EXPECT_FALSE(reader.run_at(at, at.size, 1).ok());
  }
}

TEST_P(SampleTest, HasTheGoldenDigest) {
  EXPECT_EQ(hex(sha256(write(GetParam().make()))), GetParam().sha256);
}

TEST_P(SampleTest, PassesFsckErofs) {
  if (std::system("command -v fsck.erofs >/dev/null") != 0) GTEST_SKIP() << "no fsck.erofs";
  // fsck.erofs 1.5 overflows its stack in 1000 levels of directories.
  const bool deep = std::string(GetParam().name) == "deep_tree";
  const tree::Tree tree = deep ? deep_tree(100) : GetParam().make();
  const auto dir = TempDir::make("pagein-fsck-");
  ASSERT_TRUE(dir.ok());
  const Bytes image = write(tree);
  std::ofstream(dir->path() / "metadata") << as_text(image);
  std::string command = "fsck.erofs";
  for (size_t i = 0; i < tree.layers().size(); ++i) {
    const auto path = dir->path() / std::to_string(i);
    std::ofstream(path).close();
    fs::resize_file(path, tree.layers()[i].layout->data_size());
    command += " --device=" + path.string();
  }
  command +=
      " " + (dir->path() / "metadata").string() + " >" + (dir->path() / "log").string() + " 2>&1";
  const int status = std::system(command.c_str());
  const auto log = read_file(dir->path() / "log");
  EXPECT_EQ(status, 0) << (log.ok() ? *log : "");
}

TEST(Writer, RefusesDevicesThatDoNotFit) {
  const tree::Tree tree = every_kind();
  EXPECT_EQ(write_metadata(tree, {}).error().code, Code::invalid_argument);
  WriteOptions options = options_for(tree);
  options.devices[0].blocks -= 1;
  EXPECT_EQ(write_metadata(tree, options).error().code, Code::invalid_argument);
  options = options_for(tree, {std::string(65, 'x')});
  EXPECT_EQ(write_metadata(tree, options).error().code, Code::invalid_argument);
}

TEST(Writer, RefusesWhatErofsCannotHold) {
  tree::LayerMaker xattr;
  xattr.xattrs({{"user.x", std::string(65536, 'x')}}).file("dir/f", 1);
  const auto tree = tree::merge({xattr.finish()});
  ASSERT_TRUE(tree.ok());
  const auto result = write_metadata(*tree, options_for(*tree));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, Code::unsupported);
  EXPECT_THAT(result.error().message, testing::HasSubstr("dir/f"));

  tree::LayerMaker sparse;
  sparse.sparse("huge", 1ULL << 45, {{4096, 1}});
  const auto holes = tree::merge({sparse.finish()});
  ASSERT_TRUE(holes.ok());
  EXPECT_EQ(write_metadata(*holes, options_for(*holes)).error().code, Code::unsupported);
}

TEST(Writer, NeedsOneChunkForAContiguousFile) {
  using index::Region;
  const auto plan = [](uint64_t size, std::vector<Region> regions) {
    const ChunkPlan p = plan_chunks(size, regions);
    return std::pair(p.bits, p.count);
  };
  EXPECT_EQ(plan(1, {{0, 0, 1}}), std::pair(0u, uint64_t{1}));
  EXPECT_EQ(plan(4096, {{0, 0, 4096}}), std::pair(0u, uint64_t{1}));
  EXPECT_EQ(plan(4097, {{0, 0, 4097}}), std::pair(1u, uint64_t{1}));
  EXPECT_EQ(plan(5ULL << 30, {{0, 4096, 5ULL << 30}}), std::pair(21u, uint64_t{1}));
  EXPECT_EQ(plan(1ULL << 40, {}), std::pair(28u, uint64_t{1}));
  EXPECT_EQ(plan(1ULL << 44, {}), std::pair(31u, uint64_t{2}));
  // Regions that adjoin in both the file and the data are one.
  EXPECT_EQ(plan(8192, {{0, 0, 4096}, {4096, 4096, 4096}}), std::pair(1u, uint64_t{1}));
  EXPECT_EQ(plan(8192, {{0, 0, 4096}, {4096, 8192, 4096}}), std::pair(0u, uint64_t{2}));
  // An edge at block 4 allows chunks of 4 blocks, one at block 3 chunks of 1.
  EXPECT_EQ(plan(32768, {{0, 0, 16384}}), std::pair(2u, uint64_t{2}));
  EXPECT_EQ(plan(32768, {{16384, 0, 16384}}), std::pair(2u, uint64_t{2}));
  EXPECT_EQ(plan(32768, {{12288, 0, 4096}}), std::pair(0u, uint64_t{8}));
}

TEST(Writer, PutsTheRootWithin16Bits) {
  const tree::Tree tree = many_layers(4000);  // a device table of 512 KiB
  const Bytes image = write(tree);
  const auto reader = Reader::open(image);
  ASSERT_TRUE(reader.ok());
  EXPECT_GT(reader->super().root_nid, 0);
  EXPECT_LE(reader->super().root_nid, 128);
}

TEST(Writer, SumsAsTheKernelDoes) {
  const std::string text = "123456789";  // RFC 3720's check value is e3069283, inverted here
  EXPECT_EQ(crc32c(~0u, reinterpret_cast<const uint8_t*>(text.data()), text.size()), ~0xe3069283u);
}

TEST(Reader, RefusesOtherImages) {
  Bytes image = write(every_kind());
  EXPECT_EQ(Reader::open(ByteView(image).first(4095)).error().code, Code::corrupt_input);
  EXPECT_EQ(Reader::open(ByteView(image).first(8192)).error().code, Code::corrupt_input);
  image[kSuperOffset + 200] ^= 1;
  EXPECT_EQ(Reader::open(image).error().code, Code::corrupt_input);
  EXPECT_EQ(Reader::open(Bytes(8192)).error().code, Code::corrupt_input);
}

}  // namespace
}  // namespace pagein::erofs
