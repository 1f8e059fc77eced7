// Archives that other programs wrote (testdata/make.py), and broken ones.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/file.h"
#include "tar/stream_reader.h"

namespace pagein::tar {
namespace {

const std::filesystem::path kFolder = std::string(PAGEIN_SOURCE_DIR) + "/src/tar/testdata";

std::string printable(std::string_view bytes) {
  std::string out;
  for (const char c : bytes) {
    char text[8];
    const bool plain = c > ' ' && c < 0x7f && c != '\\';
    std::snprintf(text, sizeof text, plain ? "%c" : "\\%03o", static_cast<uint8_t>(c));
    out += text;
  }
  return out;
}

struct Lister : EntrySink {
  Status on_entry(const Entry& e) override {
    static constexpr char kLetters[] = "fdlhcbp";
    char text[256];
    std::snprintf(text, sizeof text, "%c %04o %lld:%lld %lld.%09u %llu @%llu+%llu",
                  kLetters[static_cast<size_t>(e.type)], e.mode, static_cast<long long>(e.uid),
                  static_cast<long long>(e.gid), static_cast<long long>(e.mtime_sec), e.mtime_nsec,
                  static_cast<unsigned long long>(e.size),
                  static_cast<unsigned long long>(e.content_offset),
                  static_cast<unsigned long long>(e.content_length));
    out += text;
    out += " " + printable(e.path);
    if (e.type == EntryType::symlink || e.type == EntryType::hardlink) {
      out += " -> " + printable(e.link_target);
    }
    if (e.type == EntryType::char_device) {
      out += " dev " + std::to_string(e.dev_major) + ":" + std::to_string(e.dev_minor);
    }
    for (const Xattr& xattr : e.xattrs) {
      out += " " + printable(xattr.name) + "=" + printable(xattr.value);
    }
    if (e.sparse) out += " sparse";
    for (const SparseSegment& s : e.segments) {
      out += " " + std::to_string(s.file_offset) + "+" + std::to_string(s.length);
    }
    out += '\n';
    return {};
  }
  std::string out;
};

std::vector<std::filesystem::path> archives() {
  std::vector<std::filesystem::path> paths;
  for (const auto& file : std::filesystem::directory_iterator(kFolder)) {
    if (file.path().extension() == ".tar") paths.push_back(file.path());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

bool should_fail(const std::filesystem::path& path) {
  return path.filename().string().starts_with("should-fail-");
}

Status list(const std::filesystem::path& path, Lister& lister) {
  ASSIGN_OR_RETURN(const std::string bytes, read_file(path));
  StreamReader reader(lister);
  RETURN_IF_ERROR(reader.feed(as_bytes(bytes)));
  return reader.finish();
}

TEST(TarTestdata, ListsWhatOtherProgramsWrote) {
  std::string all;
  for (const auto& path : archives()) {
    if (should_fail(path)) continue;
    Lister lister;
    const Status status = list(path, lister);
    EXPECT_TRUE(status.ok()) << path << (status.ok() ? "" : status.error().message);
    all += "== " + path.filename().string() + "\n" + lister.out;
  }
  const auto golden = kFolder / "listing.txt";
  if (std::getenv("PAGEIN_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(replace_file(golden, as_bytes(all)).ok());
  }
  EXPECT_EQ(all, read_file(golden).value());
}

TEST(TarTestdata, RefusesBrokenArchives) {
  size_t count = 0;
  for (const auto& path : archives()) {
    if (!should_fail(path)) continue;
    ++count;
    Lister lister;
    const Status status = list(path, lister);
    ASSERT_FALSE(status.ok()) << path;
    EXPECT_TRUE(status.error().code == Code::corrupt_input ||
                status.error().code == Code::unsupported)
        << path;
  }
  EXPECT_GE(count, 12u);
}

}  // namespace
}  // namespace pagein::tar
