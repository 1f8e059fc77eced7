// What a power failure may leave: a disk that keeps what was synced and, page
// by page, whatever it likes of the rest. The idea is that of LevelDB's
// fault_injection_test. fdatasync, fsync and rename are replaced in this
// binary, so the order of the store's own calls is what is tested.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <map>
#include <random>
#include <set>

#include "index/test_layer.h"
#include "store/layer_store.h"

namespace {

struct Calls {
  std::function<void(const std::string& path)> synced;
  std::function<void(const std::string& from, const std::string& to)> renames;
};
Calls* watching = nullptr;

std::string path_of(int fd) {
  char path[4096];
  const std::string link = "/proc/self/fd/" + std::to_string(fd);
  const ssize_t n = ::readlink(link.c_str(), path, sizeof path);
  return n > 0 ? std::string(path, static_cast<size_t>(n)) : std::string();
}

}  // namespace

extern "C" int fdatasync(int fd) {
  const long result = ::syscall(SYS_fdatasync, fd);
  if (result == 0 && watching != nullptr) watching->synced(path_of(fd));
  return static_cast<int>(result);
}
extern "C" int fsync(int fd) {
  const long result = ::syscall(SYS_fsync, fd);
  if (result == 0 && watching != nullptr) watching->synced(path_of(fd));
  return static_cast<int>(result);
}
extern "C" int rename(const char* from, const char* to) noexcept {
  if (watching != nullptr) watching->renames(from, to);
  return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

namespace pagein::store {
namespace {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::TestLayer;

constexpr size_t kPage = 4096;

Bytes content(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (!text.ok()) return {};
  return {text->begin(), text->end()};
}

// Follows one layer's folder.
class ForgetfulDisk {
 public:
  ForgetfulDisk(std::filesystem::path folder, uint32_t seed)
      : folder_(std::move(folder)), random_(seed) {
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      durable_[entry.path().filename()] = content(entry.path());
    }
    calls_.synced = [this](const std::string& path) { synced(path); };
    calls_.renames = [this](const std::string& from, const std::string& to) { renames(from, to); };
    watching = &calls_;
  }
  ~ForgetfulDisk() { watching = nullptr; }

  // Called at each point where a crash would be interesting.
  std::function<void()> at_point;

  // What is found after a crash now.
  void crash_into(const std::filesystem::path& to) {
    std::filesystem::create_directories(to);
    for (const auto& [name, before] : durable_) {
      Bytes now = content(folder_ / name);
      const bool replaced = name == "present" || name == "state.json";
      const Bytes left = replaced ? (coin() ? before : now) : mix(before, now);
      std::ofstream(to / name, std::ios::binary)
          .write(reinterpret_cast<const char*>(left.data()),
                 static_cast<std::streamsize>(left.size()));
    }
  }

 private:
  bool coin() { return random_() % 2 == 0; }

  Bytes mix(const Bytes& before, const Bytes& now) {
    Bytes left = coin() ? before : now;
    const Bytes& other = coin() ? before : now;
    for (size_t at = 0; at < std::min(left.size(), other.size()); at += kPage) {
      const size_t length = std::min({kPage, left.size() - at, other.size() - at});
      if (coin())
        std::copy_n(other.begin() + static_cast<ptrdiff_t>(at), length,
                    left.begin() + static_cast<ptrdiff_t>(at));
    }
    return left;
  }

  void synced(const std::string& path) {
    if (at_point) at_point();
    if (path == folder_) {
      for (auto& [name, bytes] : durable_) {
        if (name == "present" || name == "state.json") bytes = content(folder_ / name);
      }
    } else {
      const std::filesystem::path file(path);
      synced_.insert(path);
      if (file.parent_path() == folder_ && durable_.contains(file.filename())) {
        durable_[file.filename()] = content(file);
      }
    }
    if (at_point) at_point();
  }
  void renames(const std::string& from, const std::string&) {
    EXPECT_TRUE(synced_.contains(from)) << from << " may be empty after a crash";
    if (at_point) at_point();
  }

  const std::filesystem::path folder_;
  std::mt19937 random_;
  std::map<std::string, Bytes> durable_;
  std::set<std::string> synced_;
  Calls calls_;
};

class Crash : public testing::TestWithParam<uint32_t> {};

void expect_claims_are_right(Layer& layer, const TestLayer& made) {
  if (layer.complete()) {
    Bytes data(layer.data_size());
    ASSERT_TRUE(layer.read_data(0, data).ok());
    EXPECT_EQ(data, made.data());
    return;
  }
  for (size_t i = 0; i < made.index->spans.size(); ++i) {
    if (!layer.presence().test(i)) continue;
    Bytes found(made.span(i).size());
    ASSERT_TRUE(layer.read_span(i, found).ok());
    EXPECT_TRUE(std::equal(found.begin(), found.end(), made.span(i).begin())) << i;
  }
}

TEST_P(Crash, NoClaimedSpanHasWrongBytes) {
  tar::TestArchive archive;
  for (int i = 0; i < 40; ++i) {
    archive.file("tiny" + std::to_string(i), index::testing::test_text(100, 7));
  }
  archive.file("one", index::testing::test_text(300'000, 1));
  archive.file("two", index::testing::test_text(200'000, 2)).end();
  const TestLayer made = make_test_layer(archive.bytes());
  const size_t count = made.index->spans.size();
  const TempDir dir = must(TempDir::make("crash-"));
  const auto store = must(LayerStore::open(dir.path() / "live"));
  const auto layer = must(store->create(made.head));

  std::mt19937 random(GetParam());
  ForgetfulDisk disk(dir.path() / "live" / "layers" / layer->id(), GetParam());
  size_t crashes = 0;
  size_t durable_claims = 0;
  auto crash = [&] {
    Calls* const live = std::exchange(watching, nullptr);
    const auto root = dir.path() / ("crash" + std::to_string(crashes++));
    disk.crash_into(root / "layers" / layer->id());
    {
      const auto after = must(LayerStore::open(root));
      if (const auto found = after->find(layer->id()); found.ok()) {
        expect_claims_are_right(**found, made);
        EXPECT_GE((*found)->presence().count(), durable_claims);
      } else {
        EXPECT_EQ(durable_claims, 0u) << found.error().message;
      }
    }
    std::filesystem::remove_all(root);
    watching = live;
  };
  disk.at_point = [&] {
    if (random() % 3 == 0) crash();
  };
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  for (const size_t span : order) {
    must(layer->write_span(span, made.span(span)));
    if (random() % 4 == 0) crash();
    if (random() % 3 != 0) continue;
    const size_t claimed = layer->presence().count();
    must(random() % 2 == 0 ? layer->sync() : layer->close_cleanly());
    durable_claims = claimed;
  }
  must(layer->mark_complete());
  durable_claims = count;
  for (int i = 0; i < 4; ++i) crash();
  EXPECT_GT(crashes, 5u);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Crash, testing::Range(1u, 9u));

}  // namespace
}  // namespace pagein::store
