// The examples in docs/formats/layer-index.md are what the code writes. With
// PAGEIN_UPDATE_GOLDEN set the document gets the new ones.

#include <gtest/gtest.h>
#include <zstd.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "base/byte_reader.h"
#include "index/file_table_builder.h"
#include "index/file_table_columns.h"
#include "index/file_table_format.h"
#include "index/layer_index_builder.h"
#include "tar/test_archive.h"

namespace pagein::index {
namespace {

const std::string kDocument = std::string(PAGEIN_SOURCE_DIR) + "/docs/formats/layer-index.md";

std::string hex_lines(ByteView bytes, std::string_view label) {
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += 16) {
    out += label;
    for (const uint8_t byte : bytes.subspan(at, std::min<size_t>(16, bytes.size() - at))) {
      char text[4];
      std::snprintf(text, sizeof text, " %02x", byte);
      out += text;
    }
    out += '\n';
    label = "              ";
  }
  return out;
}

std::string columns_of(ByteView files) {
  static constexpr std::string_view kLabels[] = {
      "xattr lists   ", "attribute sets", "attributes    ", "parents       ", "names         ",
      "times         ", "time, low     ", "time, high    ", "size, low     ", "size, middle  ",
      "size, high    ", "offsets       ", "targets       ", "devices       ", "segments      "};
  static_assert(std::size(kLabels) == kColumnCount);
  constexpr size_t kSizesLength = 4 * kColumnCount;
  std::string out = hex_lines(files.first(kSizesLength), "sizes         ");
  ByteReader sizes(files, "files");
  size_t at = kSizesLength;
  for (const std::string_view label : kLabels) {
    const uint32_t size = sizes.u32().value();
    out += hex_lines(files.subspan(at, size), label);
    at += size;
  }
  return out;
}

std::string dump(ByteView bytes) {
  std::string out;
  for (size_t at = 0; at < bytes.size(); at += 16) {
    char label[24];
    std::snprintf(label, sizeof label, "%04zx ", at);
    out += hex_lines(bytes.subspan(at, std::min<size_t>(16, bytes.size() - at)), label);
  }
  return out;
}

// The code block behind the marker: where its text begins and ends.
std::pair<size_t, size_t> block(const std::string& document, const std::string& name) {
  const std::string start = "<!-- example: " + name + " -->\n```\n";
  const size_t at = document.find(start);
  if (at == std::string::npos) return {0, 0};
  return {at + start.size(), document.find("```", at + start.size())};
}

void expect_example(const std::string& name, const std::string& expected) {
  std::string document = read_file(kDocument).value();
  const auto [begin, end] = block(document, name);
  ASSERT_NE(begin, 0u) << "no example in the document";
  if (std::getenv("PAGEIN_UPDATE_GOLDEN") != nullptr) {
    document.replace(begin, end - begin, expected);
    ASSERT_TRUE(replace_file(kDocument, as_bytes(document)).ok());
    return;
  }
  EXPECT_EQ(document.substr(begin, end - begin), expected);
}

std::string example_tar() {
  tar::TestArchive archive;
  archive.directory("bin/").file("bin/hi", "hello\n");
  archive.header({.name = "bin/sh", .type = '2', .link = "hi", .mode = "0000777"});
  archive.file("bin/.wh.old", "").end();
  return archive.bytes();
}

FileTable example_files(std::string_view tar) {
  FileTableBuilder builder;
  tar::StreamReader reader(builder);
  EXPECT_TRUE(reader.feed(as_bytes(tar)).ok());
  EXPECT_TRUE(reader.finish().ok());
  return builder.finish();
}

TEST(LayerIndexDocument, FilesExample) {
  expect_example("files", columns_of(write_file_table(example_files(example_tar()))));
}

TEST(LayerIndexDocument, HeadExample) {
  if (ZSTD_versionNumber() != 10504) GTEST_SKIP() << "the example is made by zstd 1.5.4";
  constexpr uint64_t kSpacing = 2048;
  const std::string tar = example_tar();
  ASSERT_EQ(tar.size(), 3584u);
  LayerIndexBuilder builder;
  for (uint64_t at = 0; at < tar.size(); at += kSpacing) {
    builder.add_span(at, {codec::CheckpointKind::identity, at * 8}, {},
                     sha256(as_bytes(tar.substr(at, kSpacing))));
  }
  const oci::Digest digest = oci::Digest::of(as_bytes(tar));
  const auto encoded = builder.finish({.encoding = codec::Encoding::identity,
                                       .layer_digest = digest,
                                       .layer_size = tar.size(),
                                       .diff_id = digest,
                                       .tar_size = tar.size(),
                                       .span_spacing = kSpacing},
                                      example_files(tar));
  expect_example("head", dump(encoded.value().head));
}

}  // namespace
}  // namespace pagein::index
