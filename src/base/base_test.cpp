#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/byte_reader.h"
#include "base/file.h"
#include "base/sha256.h"

namespace pagein {
namespace {

TEST(ByteReader, RefusesToReadPastTheEnd) {
  const Bytes bytes = {1, 2, 3};
  ByteReader reader(bytes, "test");
  EXPECT_EQ(reader.u16().value(), 0x0201);
  Result<uint16_t> past = reader.u16();
  ASSERT_FALSE(past.ok());
  EXPECT_EQ(past.error().code, Code::corrupt_input);
  EXPECT_EQ(reader.u8().value(), 3);
  EXPECT_TRUE(reader.at_end());
}

TEST(ByteReader, VarintRoundTripsAndRejectsRedundantForms) {
  for (uint64_t value :
       {uint64_t{0}, uint64_t{127}, uint64_t{128}, uint64_t{1} << 35, ~uint64_t{0}}) {
    ByteWriter writer;
    writer.varint(value);
    ByteReader reader(writer.buffer(), "test");
    EXPECT_EQ(reader.varint().value(), value);
    EXPECT_TRUE(reader.at_end());
  }
  const Bytes redundant = {0x80, 0x00};
  EXPECT_FALSE(ByteReader(redundant, "test").varint().ok());
  const Bytes too_long = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02};
  EXPECT_FALSE(ByteReader(too_long, "test").varint().ok());
}

TEST(File, ReplaceLeavesNoTemporaryAndKeepsMode) {
  TempDir dir = TempDir::make("pagein-base-").value();
  const auto path = dir.path() / "f";
  ASSERT_TRUE(replace_file(path, as_bytes("one")).ok());
  ASSERT_TRUE(replace_file(path, as_bytes("two"), 0600).ok());
  EXPECT_EQ(read_file(path).value(), "two");
  struct stat st;
  ASSERT_EQ(stat(path.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  size_t entries = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(dir.path())) ++entries;
  EXPECT_EQ(entries, 1u);
}

TEST(File, ReadCapsAndShortFilesAreErrors) {
  TempDir dir = TempDir::make("pagein-base-").value();
  ASSERT_TRUE(replace_file(dir.path() / "f", as_bytes("12345")).ok());
  EXPECT_EQ(read_file(dir.path() / "f", 4).error().code, Code::exhausted);
  UniqueFd fd = open_file(dir.path() / "f", 0).value();
  Bytes out(6);
  EXPECT_EQ(pread_full(fd.get(), out, 0).error().code, Code::corrupt_input);
}

TEST(Error, ErrnoMapping) {
  EXPECT_EQ(errno_error(ENOSPC, "write").code, Code::exhausted);
  EXPECT_EQ(to_errno(errno_error(ENOSPC, "write")), ENOSPC);
  EXPECT_EQ(to_errno(Error(Code::corrupt_input, "x")), EIO);
}

TEST(Sha256, KnownAnswer) {
  const Sha256Bytes digest = sha256(as_bytes("abc"));
  EXPECT_EQ(digest[0], 0xba);
  EXPECT_EQ(digest[31], 0xad);
}

}  // namespace
}  // namespace pagein
