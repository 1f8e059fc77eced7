#include "index/data_layout.h"

#include <gtest/gtest.h>

#include "index/file_table_builder.h"

namespace pagein::index {
namespace {

tar::Entry file(std::string path, uint64_t tar_offset, uint64_t size) {
  tar::Entry entry;
  entry.path = std::move(path);
  entry.content_offset = tar_offset;
  entry.content_length = entry.size = size;
  return entry;
}

DataLayout layout_of(const std::vector<tar::Entry>& entries) {
  FileTableBuilder builder;
  for (const tar::Entry& entry : entries) {
    if (Status status = builder.add(entry); !status.ok()) ADD_FAILURE() << status.error().message;
  }
  return DataLayout::build(builder.finish()).value();
}

std::string describe(std::span<const Region> regions) {
  std::string out;
  for (const Region& r : regions) {
    out += std::to_string(r.file_offset) + "@" + std::to_string(r.data_offset) + "+" +
           std::to_string(r.length) + " ";
  }
  return out;
}
std::string describe(std::span<const Extent> extents) {
  std::string out;
  for (const Extent& e : extents) {
    out += std::to_string(e.tar_offset) + "@" + std::to_string(e.data_offset) + "+" +
           std::to_string(e.length) + " ";
  }
  return out;
}

TEST(DataLayout, FilesStartAtBlocks) {
  const DataLayout layout =
      layout_of({file("a", 512, 5), file("empty", 0, 0), file("b", 1536, 4097)});
  EXPECT_EQ(layout.data_size(), 3 * kBlockSize);
  EXPECT_EQ(describe(layout.extents()), "512@0+5 1536@4096+4097 ");
  EXPECT_EQ(describe(layout.regions(1)), "0@0+5 ");
  EXPECT_EQ(describe(layout.regions(2)), "");
  EXPECT_EQ(describe(layout.regions(3)), "0@4096+4097 ");
  EXPECT_EQ(describe(layout.regions(kRootEntry)), "");
}

TEST(DataLayout, SparseRegionsAreWholeBlocksAndJoin) {
  tar::Entry sparse = file("s", 1024, 0);
  sparse.sparse = true;
  sparse.size = 50000;
  // Blocks 0; 1 (touches 0); 5; 5..6 (shares 5); 12 (the last, cut at the end).
  sparse.segments = {{10, 20}, {4096, 10}, {20480, 1}, {24570, 10}, {49990, 10}};
  sparse.content_length = 51;
  const DataLayout layout = layout_of({file("a", 512, 1), sparse});
  EXPECT_EQ(describe(layout.regions(2)), "0@4096+8192 20480@12288+8192 49152@20480+848 ");
  EXPECT_EQ(describe(layout.extents()),
            "512@0+1 1024@4106+20 1044@8192+10 1054@12288+1 1055@16378+10 1065@21318+10 ");
  EXPECT_EQ(layout.data_size(), 6 * kBlockSize);
}

TEST(DataLayout, HolesOnlyNeedNoData) {
  tar::Entry sparse = file("s", 1024, 0);
  sparse.sparse = true;
  sparse.size = uint64_t{1} << 62;
  const DataLayout layout = layout_of({sparse});
  EXPECT_EQ(layout.data_size(), 0u);
  EXPECT_TRUE(layout.regions(1).empty());
  EXPECT_FALSE(layout.tar_range(0, 1).has_value());
  EXPECT_FALSE(layout.data_range(0, 1000).has_value());
}

TEST(DataLayout, TooMuchDataIsRefused) {
  FileTableBuilder builder;
  ASSERT_TRUE(builder.add(file("a", 512, kMaxDataSize)).ok());
  ASSERT_TRUE(builder.add(file("b", 1024 + kMaxDataSize, 1)).ok());
  EXPECT_EQ(DataLayout::build(builder.finish()).error().code, Code::corrupt_input);
}

TEST(DataLayout, RangesBetweenTarAndData) {
  const DataLayout layout = layout_of({file("a", 512, 100), file("b", 2048, 5000)});
  const auto both = layout.tar_range(50, 5000).value();
  EXPECT_EQ(both.begin, 562u);
  EXPECT_EQ(both.end, 2048u + 954);
  EXPECT_FALSE(layout.tar_range(100, 3996).has_value()) << "zeros behind the file";
  EXPECT_FALSE(layout.tar_range(layout.data_size(), 1).has_value());
  EXPECT_FALSE(layout.tar_range(0, 0).has_value());
  EXPECT_EQ(layout.tar_range(4096, UINT64_MAX).value().end, 2048u + 5000);

  const auto data = layout.data_range(600, 2049).value();
  EXPECT_EQ(data.begin, 88u);
  EXPECT_EQ(data.end, 4097u);
  EXPECT_FALSE(layout.data_range(612, 2048).has_value()) << "padding and a header";
  EXPECT_FALSE(layout.data_range(0, 512).has_value());
  EXPECT_EQ(layout.extents_in_tar(0, 512), (std::pair<size_t, size_t>{0, 0}));
  EXPECT_EQ(layout.extents_in_tar(511, 3000), (std::pair<size_t, size_t>{0, 2}));
  EXPECT_EQ(layout.extents_in_tar(3000, 3001), (std::pair<size_t, size_t>{1, 2}));
}

}  // namespace
}  // namespace pagein::index
