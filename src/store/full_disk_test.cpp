#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "index/test_layer.h"
#include "store/layer_store.h"

namespace pagein::store {
namespace {

using index::testing::make_test_layer;
using index::testing::must;
using index::testing::sample_tar;
using index::testing::TestLayer;

// A file system of `bytes` in a mount namespace of this thread's own, so that
// nothing stays behind whatever happens to the test.
Status mount_small_disk(const std::filesystem::path& dir, size_t bytes) {
  if (::unshare(CLONE_NEWNS) != 0) return errno_error(errno, "unshare");
  if (::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
    return errno_error(errno, "make mounts private");
  }
  const std::string options = "size=" + std::to_string(bytes);
  if (::mount("tmpfs", dir.c_str(), "tmpfs", 0, options.c_str()) != 0) {
    return errno_error(errno, "mount a tmpfs");
  }
  return {};
}

// Before its folder can be removed.
struct Unmounted {
  const std::filesystem::path dir;
  ~Unmounted() { ::umount2(dir.c_str(), MNT_DETACH); }
};

TEST(FullDisk, NothingIsClaimedAndItGoesOnOnceThereIsRoom) {
  const TempDir dir = must(TempDir::make("full-disk-"));
  if (const Status mounted = mount_small_disk(dir.path(), 1 << 20); !mounted.ok()) {
    GTEST_SKIP() << "needs the right to mount: " << mounted.error().message;
  }
  const Unmounted at_the_end{dir.path()};
  const TestLayer made = make_test_layer(sample_tar());
  const auto ballast = dir.path() / "ballast";
  {
    const auto store = must(LayerStore::open(dir.path()));
    const auto layer = must(store->create(made.head));
    must(replace_file(ballast, Bytes(300 << 10, 1)));
    size_t span = 0;
    Status written;
    for (; span < made.index->spans.size(); ++span) {
      written = layer->write_span(span, made.span(span));
      if (!written.ok()) break;
    }
    ASSERT_FALSE(written.ok()) << "the layer is larger than the disk";
    EXPECT_EQ(written.error().code, Code::exhausted);
    EXPECT_GT(span, 0u);
    EXPECT_EQ(layer->presence().count(), span);
    EXPECT_FALSE(layer->write_span(span, made.span(span)).ok());
    EXPECT_EQ(layer->presence().count(), span);
    for (size_t i = 0; i < span; ++i) {
      Bytes found(made.span(i).size());
      ASSERT_TRUE(layer->read_span(i, found).ok());
      EXPECT_TRUE(std::equal(found.begin(), found.end(), made.span(i).begin()));
    }

    // No room for the claims either: they stay to be made durable.
    const Status synced = layer->sync();
    if (!synced.ok()) {
      EXPECT_EQ(synced.error().code, Code::exhausted);
      EXPECT_GT(layer->unsynced_bytes(), 0u);
      EXPECT_EQ(layer->presence().count(), span);
    }
    const TestLayer other = make_test_layer(sample_tar(2));
    const auto refused = store->create(other.head);
    if (!refused.ok()) {
      EXPECT_EQ(refused.error().code, Code::exhausted);
    }

    ASSERT_EQ(::unlink(ballast.c_str()), 0);
    EXPECT_TRUE(layer->write_span(span, made.span(span)).ok());
    EXPECT_TRUE(layer->sync().ok());
    EXPECT_EQ(layer->presence().count(), span + 1);
  }
  const auto store = must(LayerStore::open(dir.path()));
  const auto layer = must(store->find(LayerStore::id_of(made.head)));
  for (size_t i = 0; i < layer->presence().count(); ++i) {
    ASSERT_TRUE(layer->presence().test(i));
    Bytes found(made.span(i).size());
    ASSERT_TRUE(layer->read_span(i, found).ok());
    EXPECT_TRUE(std::equal(found.begin(), found.end(), made.span(i).begin()));
  }
}

// A crash, then a start on the full disk: spans that are damaged are dropped in
// memory, also where that cannot be recorded.
TEST(FullDisk, ADamagedLayerIsOpened) {
  const TempDir dir = must(TempDir::make("full-disk-"));
  if (const Status mounted = mount_small_disk(dir.path(), 4 << 20); !mounted.ok()) {
    GTEST_SKIP() << "needs the right to mount: " << mounted.error().message;
  }
  const Unmounted at_the_end{dir.path()};
  const TestLayer made = make_test_layer(sample_tar());
  const std::string id = LayerStore::id_of(made.head);
  for (const bool complete : {false, true}) {
    SCOPED_TRACE(complete);
    {
      const auto store = must(LayerStore::open(dir.path()));
      const auto layer = must(store->create(made.head));
      for (size_t i = 0; i < made.index->spans.size(); ++i)
        must(layer->write_span(i, made.span(i)));
      must(layer->sync());
      if (complete) must(layer->mark_complete());
      const UniqueFd data = must(open_file(layer->data_path(), O_RDWR));
      const auto at = static_cast<off_t>(made.index->layout.extents().front().data_offset);
      ASSERT_EQ(::fallocate(data.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 4096), 0);
    }
    const auto ballast = dir.path() / "ballast";
    const UniqueFd fd = must(open_file(ballast, O_RDWR | O_CREAT, 0600));
    const Bytes block(4096, 1);
    while (::write(fd.get(), block.data(), block.size()) > 0) {
    }
    const auto store = must(LayerStore::open(dir.path()));
    const auto layer = store->find(id);
    ASSERT_TRUE(layer.ok()) << layer.error().message;
    EXPECT_FALSE((*layer)->complete());
    EXPECT_FALSE((*layer)->presence().test(0));
    ASSERT_EQ(::unlink(ballast.c_str()), 0);
  }
}

}  // namespace
}  // namespace pagein::store
