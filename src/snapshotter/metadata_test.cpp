#include "snapshotter/metadata.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <fstream>

#include "snapshotter/snapshotter.h"
#include "snapshotter/test_api.h"

namespace pagein::snapshotter {
namespace {

namespace fs = std::filesystem;

class MetadataTest : public testing::Test {
 protected:
  void SetUp() override {
    auto dir = TempDir::make("pagein-metadata-");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<TempDir>(*std::move(dir));
    file_ = dir_->path() / "metadata.db";
  }

  static Status nothing(const Stack&) { return {}; }

  std::vector<std::string> moved_aside() {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(dir_->path())) {
      const std::string name = entry.path().filename().string();
      if (name.find(".corrupt-") != std::string::npos) names.push_back(name);
    }
    return names;
  }

  std::unique_ptr<TempDir> dir_;
  fs::path file_;
};

TEST_F(MetadataTest, SurvivesReopeningAndNeverReusesAnId) {  // I2
  int64_t first = 0;
  {
    const auto metadata = Metadata::open(file_);
    ASSERT_TRUE(metadata.ok()) << metadata.error().message;
    EXPECT_EQ((*metadata)->opened(), Opened::created);
    first = (*metadata)->create({Kind::active, "a", "", {{"k", "v"}}}, Time{}, nothing)->id;
    ASSERT_TRUE((*metadata)->remove("a").ok());
    ASSERT_TRUE((*metadata)->create({Kind::view, "b", "", {{"k", "v"}}}, Time{}, nothing).ok());
    ASSERT_TRUE((*metadata)->remove("b").ok());
  }
  const auto metadata = Metadata::open(file_);
  ASSERT_TRUE(metadata.ok());
  EXPECT_EQ((*metadata)->opened(), Opened::existing);
  EXPECT_EQ((*metadata)->create({Kind::active, "c", "", {}}, Time{}, nothing)->id, first + 2);
}

TEST_F(MetadataTest, AnErrorInTheTransactionLeavesNothing) {
  const auto metadata = Metadata::open(file_);
  ASSERT_TRUE(metadata.ok());
  const auto failed = (*metadata)->create({Kind::active, "a", "", {}}, Time{}, [](const Stack&) {
    return Status(Error(Code::exhausted, "disk full"));
  });
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, Code::exhausted);
  EXPECT_EQ((*metadata)->get("a").error().code, Code::not_found);
  EXPECT_TRUE((*metadata)->create({Kind::active, "a", "", {}}, Time{}, nothing).ok());
}

TEST_F(MetadataTest, TwoProcessesCannotShareIt) {
  const auto first = Metadata::open(file_);
  ASSERT_TRUE(first.ok());
  const auto second = Metadata::open(file_);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, Code::unavailable) << second.error().message;
  EXPECT_TRUE(moved_aside().empty());
}

TEST_F(MetadataTest, GarbageIsMovedAside) {
  write_text(file_, std::string(100000, 'g'));
  const auto metadata = Metadata::open(file_);
  ASSERT_TRUE(metadata.ok()) << metadata.error().message;
  EXPECT_EQ((*metadata)->opened(), Opened::replaced);
  ASSERT_EQ(moved_aside().size(), 1u);
  EXPECT_TRUE((*metadata)->list()->empty());
}

TEST_F(MetadataTest, DamagedPagesAreFoundAtOpen) {
  {
    const auto metadata = Metadata::open(file_);
    ASSERT_TRUE(metadata.ok());
    for (int i = 0; i < 200; ++i) {
      const Labels labels{{"label", std::string(500, 'x')}};
      ASSERT_TRUE(
          (*metadata)
              ->create({Kind::active, "key" + std::to_string(i), "", labels}, Time{}, nothing)
              .ok());
    }
  }
  const auto size = fs::file_size(file_);
  std::fstream file(file_, std::ios::in | std::ios::out | std::ios::binary);
  for (uint64_t at = 4096; at + 4096 <= size; at += 4096) {
    file.seekp(static_cast<std::streamoff>(at));
    file << std::string(64, '\xee');
  }
  file.close();
  const auto metadata = Metadata::open(file_);
  ASSERT_TRUE(metadata.ok()) << metadata.error().message;
  EXPECT_EQ((*metadata)->opened(), Opened::replaced);
  EXPECT_FALSE(moved_aside().empty());
}

TEST_F(MetadataTest, ANewerSchemaIsLeftAlone) {
  ASSERT_TRUE(Metadata::open(file_).ok());
  sqlite3* handle = nullptr;
  ASSERT_EQ(sqlite3_open(file_.c_str(), &handle), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(handle, "PRAGMA user_version = 99", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(handle);
  const auto metadata = Metadata::open(file_);
  ASSERT_FALSE(metadata.ok());
  EXPECT_EQ(metadata.error().code, Code::unsupported);
  EXPECT_TRUE(moved_aside().empty());
}

// Running containers may stand on folders whose database is lost.
TEST_F(MetadataTest, FoldersWithoutADatabaseAreKept) {
  {
    const auto snapshotter = Snapshotter::open({.root = dir_->path()});
    ASSERT_TRUE(snapshotter.ok());
    ASSERT_TRUE((*snapshotter)->prepare("a", "", {}).ok());
  }
  write_text(dir_->path() / "snapshots/1/fs/precious", "x");
  for (const char* part : {"", "-wal", "-shm"}) fs::remove(file_.string() + part);
  const auto snapshotter = Snapshotter::open({.root = dir_->path()});
  ASSERT_TRUE(snapshotter.ok());
  EXPECT_TRUE(fs::is_empty(dir_->path() / "snapshots"));
  bool kept = false;
  for (const auto& entry : fs::recursive_directory_iterator(dir_->path())) {
    kept = kept || entry.path().filename() == "precious";
  }
  EXPECT_TRUE(kept);
}

TEST_F(MetadataTest, KeysOfAnyText) {
  const auto metadata = Metadata::open(file_);
  ASSERT_TRUE(metadata.ok());
  for (const std::string& key :
       {std::string("it's \"quoted\"; DROP TABLE snapshots"), std::string("nul\0inside", 10),
        std::string("ünïcödé"), std::string(100000, 'k')}) {
    ASSERT_TRUE((*metadata)->create({Kind::active, key, "", {{key, key}}}, Time{}, nothing).ok());
    const auto record = (*metadata)->get(key);
    ASSERT_TRUE(record.ok());
    EXPECT_EQ(record->info.name, key);
    EXPECT_EQ(record->info.labels, (Labels{{key, key}}));
  }
  EXPECT_EQ((*metadata)->list()->size(), 4u);
}

}  // namespace
}  // namespace pagein::snapshotter
