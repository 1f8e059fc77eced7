// The questions that every mount engine answers alike. A test file includes this
// and instantiates EngineConformance with an EngineFactory for each engine.
#pragma once

#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>

#include <future>
#include <map>
#include <set>

#include "mount/mount_test_support.h"
#include "mount/overlay.h"

namespace pagein::mount::testing {

class EngineConformance : public ::testing::TestWithParam<EngineFactory> {
 protected:
  void SetUp() override {
    SKIP_UNLESS_ROOT();
    server_ = FuseServer::start({}).value();
    engine_ = GetParam().make(*server_);
    if (const std::string why = why_unusable(); !why.empty()) GTEST_SKIP() << why;
  }

  // Empty where the engine works here; found once for each.
  std::string why_unusable() {
    static std::map<std::string, std::string> known;
    const auto [it, is_new] = known.try_emplace(GetParam().name);
    if (!is_new) return it->second;
    const TempDir scratch = TempDir::make("pagein-probe-", "/var/tmp").value();
    const EngineProbe probe = engine_->probe(scratch.path());
    if (probe.usable) return {};
    return it->second = "this engine does not work here: " + probe.findings[0];
  }

  std::unique_ptr<ImageMount> mount(ImageSpec spec) {
    spec.caching = GetParam().caching;
    Result<std::unique_ptr<ImageMount>> mounted = engine_->mount(std::move(spec));
    if (mounted.ok()) return std::move(*mounted);
    ADD_FAILURE() << mounted.error().message;
    return nullptr;
  }

  // The daemon goes and comes again.
  void restart_server() {
    server_.reset();
    server_ = FuseServer::start({}).value();
    engine_ = GetParam().make(*server_);
  }

  std::unique_ptr<FuseServer> server_;
  std::unique_ptr<Engine> engine_;
};

// ---- Right bytes ----

class EngineConformanceDevices : public EngineConformance {
 protected:
  void check(size_t count) {
    TestImage image(count);
    auto devices = TestImage::devices(count);
    auto mounted = mount(image.spec(devices));
    ASSERT_TRUE(mounted);
    size_t names = 0;
    for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator(image.target())) {
      ++names;
    }
    EXPECT_EQ(names, count);
    for (size_t i = 0; i < count; ++i) {
      EXPECT_EQ(std::filesystem::file_size(image.file(i)), kFileBytes);
      EXPECT_EQ(read_at(image.file(i), 0, kDeviceBytes).bytes, devices[i]->bytes(0, kFileBytes))
          << i;
    }
    EXPECT_TRUE(mounted->unmount(UnmountMode::normal).ok());
    EXPECT_TRUE(mounted->wait_ended(kPatience).ok());
  }
};

TEST_P(EngineConformanceDevices, OneDevice) { check(1); }
TEST_P(EngineConformanceDevices, TwentyDevices) { check(20); }
TEST_P(EngineConformanceDevices, ThreeHundredDevices) { check(300); }

TEST_P(EngineConformance, ReadsAtAnyOffset) {
  TestImage image(1);
  auto devices = TestImage::devices(1);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  for (const uint64_t offset : {0, 1, 4095, 4096, 131'071, 200'000, 261'000, 261'143}) {
    drop_cache(image.file(0));
    const size_t length = std::min<size_t>(10'000, kFileBytes - offset);
    EXPECT_EQ(read_at(image.file(0), offset, 10'000).bytes, devices[0]->bytes(offset, length));
  }
  EXPECT_TRUE(read_at(image.file(0), kFileBytes, 10).bytes.empty());
}

TEST_P(EngineConformance, ShowsTheWholeTree) {
  using tar::EntryType;
  const auto entry = [](EntryType type, const char* path, uint16_t mode) {
    tar::Entry out;
    out.type = type;
    out.path = path;
    out.mode = mode;
    out.mtime_sec = 1'600'000'000;
    out.mtime_nsec = 5;
    return out;
  };
  tar::Entry tool = entry(EntryType::regular, "usr/bin/tool", 04755);
  tool.size = 5000;
  tool.uid = 1000;
  tool.gid = 70'000;
  tool.xattrs = {
      {"security.capability", std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)}};
  tar::Entry link = entry(EntryType::symlink, "bin", 0777);
  link.link_target = "usr/bin";
  tar::Entry hard = entry(EntryType::hardlink, "usr/bin/again", 04755);
  hard.link_target = "usr/bin/tool";
  hard.uid = tool.uid;
  hard.gid = tool.gid;
  hard.xattrs = tool.xattrs;
  tar::Entry null = entry(EntryType::char_device, "dev/null", 0666);
  null.dev_major = 1;
  null.dev_minor = 3;
  TestImage image({{entry(EntryType::directory, "usr/bin", 01755), tool, link, hard, null,
                    entry(EntryType::fifo, "run/pipe", 0600)},
                   {entry(EntryType::regular, "usr/bin/.wh.gone", 0), probe_file("top", 0)}},
                  "tree");
  auto device = std::make_shared<TestDevice>(pattern(1, 0, 5000));
  // The upper layer has no contents: an empty device.
  auto mounted = mount(image.spec(std::vector{device, std::make_shared<TestDevice>(2, 0)}));
  ASSERT_TRUE(mounted);
  struct stat st;
  const auto stat = [&](const char* path) {
    ASSERT_EQ(::lstat((image.target() / path).c_str(), &st), 0) << path;
  };
  stat("usr/bin/again");
  EXPECT_EQ(st.st_mode, S_IFREG | 04755u);
  EXPECT_EQ(st.st_uid, 1000u);
  EXPECT_EQ(st.st_gid, 70'000u);
  EXPECT_EQ(st.st_size, 5000);
  EXPECT_EQ(st.st_nlink, 2u);
  EXPECT_EQ(st.st_mtim.tv_sec, 1'600'000'000);
  EXPECT_EQ(st.st_mtim.tv_nsec, 5);
  char value[64];
  EXPECT_EQ(
      ::getxattr((image.target() / "bin/tool").c_str(), "security.capability", value, sizeof value),
      20);
  stat("run/pipe");
  EXPECT_TRUE(S_ISFIFO(st.st_mode));
  stat("usr/bin");
  EXPECT_EQ(st.st_mode, S_IFDIR | 01755u);
  EXPECT_EQ(read_at(image.target() / "bin/again", 0, 6000).bytes, pattern(1, 0, 5000));
  // As in any snapshotter's directories, device nodes work.
  EXPECT_EQ(read_at(image.target() / "dev/null", 0, 10).error, 0);
}

TEST_P(EngineConformance, ShowsHolesAsZerosAndFindsThem) {
  constexpr uint64_t kSize = 3 * (1 << 20) + 100;
  tar::Entry sparse = probe_file("sparse", kSize);
  sparse.sparse = true;
  sparse.segments = {{1 << 20, 8192}, {(2 << 20) + 4096, 8192}};
  sparse.content_length = 8192 + 8192;
  tar::Entry hole = probe_file("hole", kSize);
  hole.sparse = true;
  TestImage image({{sparse, hole}}, "sparse");
  auto device = std::make_shared<TestDevice>(3, image.device_bytes(0));
  auto mounted = mount(image.spec(std::vector{device}));
  ASSERT_TRUE(mounted);
  for (const auto mode : {TestDevice::Mode::inline_reply, TestDevice::Mode::other_thread}) {
    device->set_mode(mode);
    drop_cache(image.target() / "sparse");
    const Bytes bytes = read_at(image.target() / "sparse", 0, kSize + 10).bytes;
    ASSERT_EQ(bytes.size(), kSize);
    const auto is_data = [](uint64_t at) {
      return (at >= 1 << 20 && at < (1 << 20) + 8192) ||
             (at >= (2 << 20) + 4096 && at < (2 << 20) + 4096 + 8192);
    };
    for (uint64_t at = 0; at < kSize; at += 500) EXPECT_EQ(bytes[at] != 0, is_data(at)) << at;
  }
  const Bytes zeros(kSize);
  EXPECT_EQ(read_at(image.target() / "hole", 0, kSize).bytes, zeros);
  struct stat st;
  ASSERT_EQ(::stat((image.target() / "hole").c_str(), &st), 0);
  EXPECT_EQ(st.st_size, static_cast<off_t>(kSize));
  const UniqueFd fd = open_file(image.target() / "sparse", O_RDONLY).value();
  const off_t data = ::lseek(fd.get(), 0, SEEK_DATA);
  // Where the file system knows holes; else the whole file is data.
  if (data != 0) {
    EXPECT_EQ(data, 1 << 20);
    EXPECT_GE(::lseek(fd.get(), data, SEEK_HOLE), data + 8192);
  }
  EXPECT_LE(::lseek(fd.get(), 0, SEEK_HOLE), static_cast<off_t>(kSize));
  EXPECT_EQ(::lseek(fd.get(), static_cast<off_t>(kSize), SEEK_DATA), -1);
  EXPECT_EQ(errno, ENXIO);
}

TEST_P(EngineConformance, ListsAndFindsManyNamesOfAnyBytes) {
  std::vector<tar::Entry> entries;
  std::set<std::string> expected;
  for (int i = 0; i < 3000; ++i) expected.insert("name" + std::to_string(i * 7919));
  expected.insert({"a\nb", " ", "\xff\xfe", "\1", "-", "...", std::string(255, 'x')});
  for (const std::string& name : expected) entries.push_back(probe_file("dir/" + name, 0));
  TestImage image({entries}, "names");
  auto mounted = mount(image.spec(std::vector{std::make_shared<TestDevice>(0, 0)}));
  ASSERT_TRUE(mounted);
  const auto dir = image.target() / "dir";
  for ([[maybe_unused]] const char* time : {"cold", "warm"}) {
    std::set<std::string> got;
    for (const auto& entry : std::filesystem::directory_iterator(dir)) {
      EXPECT_TRUE(got.insert(entry.path().filename()).second) << "listed twice";
      EXPECT_TRUE(entry.is_regular_file());
    }
    EXPECT_EQ(got, expected);
  }
  for (const std::string& name : expected) EXPECT_TRUE(std::filesystem::exists(dir / name));
  EXPECT_FALSE(std::filesystem::exists(dir / "name"));
  EXPECT_FALSE(std::filesystem::exists(dir / "zzz"));
  EXPECT_FALSE(std::filesystem::exists(dir / std::string(255, 'y')));
  EXPECT_EQ(::access((dir / std::string(256, 'y')).c_str(), F_OK), -1);
  EXPECT_EQ(errno, ENAMETOOLONG);
}

TEST_P(EngineConformance, ListsExtendedAttributes) {
  tar::Entry file = probe_file("f", 0);
  file.xattrs = {{"user.empty", ""}, {"user.long", std::string(3000, 'v')}};
  TestImage image({{file, probe_file("plain", 0)}}, "xattrs");
  auto mounted = mount(image.spec(std::vector{std::make_shared<TestDevice>(0, 0)}));
  ASSERT_TRUE(mounted);
  const std::string path = image.target() / "f";
  char names[256];
  const ssize_t size = ::listxattr(path.c_str(), names, sizeof names);
  ASSERT_GT(size, 0);
  const std::string listed(names, static_cast<size_t>(size));  // in any order
  EXPECT_TRUE(listed == std::string("user.empty\0user.long\0", 21) ||
              listed == std::string("user.long\0user.empty\0", 21));
  EXPECT_EQ(::listxattr(path.c_str(), nullptr, 0), size);
  EXPECT_EQ(::listxattr(path.c_str(), names, 5), -1);
  EXPECT_EQ(errno, ERANGE);
  char value[4096];
  EXPECT_EQ(::getxattr(path.c_str(), "user.empty", value, sizeof value), 0);
  EXPECT_EQ(::getxattr(path.c_str(), "user.long", nullptr, 0), 3000);
  EXPECT_EQ(::getxattr(path.c_str(), "user.long", value, sizeof value), 3000);
  EXPECT_EQ(::getxattr(path.c_str(), "user.long", value, 100), -1);
  EXPECT_EQ(errno, ERANGE);
  EXPECT_EQ(::getxattr(path.c_str(), "user.none", value, sizeof value), -1);
  EXPECT_EQ(errno, ENODATA);
  EXPECT_EQ(::listxattr((image.target() / "plain").c_str(), names, sizeof names), 0);
}

TEST_P(EngineConformance, IsReadOnlyAndTellsItsSize) {
  TestImage image(1);
  auto mounted = mount(image.spec(TestImage::devices(1)));
  ASSERT_TRUE(mounted);
  struct statfs st;
  ASSERT_EQ(::statfs(image.target().c_str(), &st), 0);
  EXPECT_EQ(st.f_namelen, 255);
  EXPECT_GT(st.f_blocks, 0u);
  EXPECT_EQ(st.f_bfree, 0u);
  EXPECT_EQ(::open((image.target() / "new").c_str(), O_CREAT | O_WRONLY, 0600), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(::open(image.file(0).c_str(), O_WRONLY), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(::unlink(image.file(0).c_str()), -1);
}

// 0/0 devices and the opaque mark are what an overlay above understands.
TEST_P(EngineConformance, WhiteoutsAndOpaqueMarksHideWhatLiesBelow) {
  tree::MergeOptions over;
  over.lower_directory = [](std::string_view) -> Result<std::optional<tree::LowerDirectory>> {
    return std::nullopt;
  };
  tar::Entry opaque = probe_file("opaque/.wh..wh..opq", 0);
  TestImage image({{probe_file(".wh.gone", 0), probe_file("opaque/new", 0), opaque}}, "whiteouts",
                  over);
  auto mounted = mount(image.spec(std::vector{std::make_shared<TestDevice>(0, 0)}));
  ASSERT_TRUE(mounted);
  struct stat st;
  ASSERT_EQ(::lstat((image.target() / "gone").c_str(), &st), 0);
  EXPECT_TRUE(S_ISCHR(st.st_mode));
  EXPECT_EQ(st.st_rdev, 0u);
  const auto below = image.dir() / "below";
  ASSERT_TRUE(make_dirs(below / "opaque").ok());
  for (const char* name : {"gone", "stays", "opaque/old"}) {
    ASSERT_TRUE(replace_file(below / name, as_bytes("below")).ok());
  }
  OverlaySpec overlay;
  overlay.lowers = {image.target(), below};
  overlay.features = detect_overlay_features();
  if (overlay.features.userxattr) GTEST_SKIP() << "trusted attributes mean nothing here";
  const auto target = image.dir() / "root";
  ASSERT_TRUE(make_dirs(target).ok());
  const Status status = mount_overlay(overlay, target);
  ASSERT_TRUE(status.ok()) << status.error().message;
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(target)) {
    names.insert(entry.path().lexically_relative(target));
  }
  EXPECT_EQ(names, (std::set<std::string>{"opaque", "opaque/new", "stays"}));
  EXPECT_TRUE(unmount(target, UnmountMode::normal).ok());
}

TEST_P(EngineConformance, MapsMemory) {
  // The rest of a file's last block is zero in a layer's data, as here: the
  // kernel maps it as it is.
  auto device = std::make_shared<TestDevice>(pattern(7, 0, kFileBytes));
  TestImage image(1);
  auto mounted = mount(image.spec(std::vector{device}));
  ASSERT_TRUE(mounted);
  UniqueFd fd = open_file(image.file(0), O_RDONLY).value();
  void* map = ::mmap(nullptr, kDeviceBytes, PROT_READ, MAP_PRIVATE, fd.get(), 0);
  ASSERT_NE(map, MAP_FAILED);
  const Bytes expected = device->bytes(0, kDeviceBytes);
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(), static_cast<const uint8_t*>(map)));
  ::munmap(map, kDeviceBytes);
}

TEST_P(EngineConformance, Executes) {
  Result<std::string> binary = read_file("/bin/true");
  ASSERT_TRUE(binary.ok());
  auto device = std::make_shared<TestDevice>(Bytes(binary->begin(), binary->end()));
  tar::Entry entry = probe_file("true", binary->size());
  entry.mode = 0755;
  TestImage image({{entry}}, "exec");
  auto mounted = mount(image.spec(std::vector{device}));
  ASSERT_TRUE(mounted);
  EXPECT_EQ(std::system((image.target() / "true").c_str()), 0);
}

TEST_P(EngineConformance, UnprivilegedReadersRead) {
  TestImage image(1);
  auto devices = TestImage::devices(1);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  ReaderProcess reader(image.file(0), 4096, devices[0]->bytes(4096, 50'000), 65534);
  EXPECT_EQ(reader.wait(), 0);
}

TEST_P(EngineConformance, AnswersComeFromOtherThreadsInAnyOrder) {
  TestImage image(20);
  auto devices = TestImage::devices(20);
  for (auto& device : devices) device->set_mode(TestDevice::Mode::other_thread);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  std::vector<std::thread> readers;
  std::atomic<int> wrong{0};
  for (size_t r = 0; r < 8; ++r) {
    readers.emplace_back([&, r] {
      for (size_t i = 0; i < 20; ++i) {
        const size_t n = (i + r * 3) % 20;
        if (read_at(image.file(n), 0, kFileBytes).bytes != devices[n]->bytes(0, kFileBytes)) {
          ++wrong;
        }
      }
    });
  }
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(wrong, 0);
}

TEST_P(EngineConformance, LocalAndVirtualDevicesMix) {
  TestImage image(3);
  auto virtual_device = std::make_shared<TestDevice>(1, kDeviceBytes);
  ASSERT_TRUE(replace_file(image.dir() / "d0", pattern(0, 0, kDeviceBytes)).ok());
  ASSERT_TRUE(replace_file(image.dir() / "d2", pattern(2, 0, kDeviceBytes)).ok());
  auto mounted = mount(image.spec({ImageDevice::local(image.dir() / "d0", kDeviceBytes),
                                   ImageDevice::virtual_file(virtual_device),
                                   ImageDevice::local(image.dir() / "d2", kDeviceBytes)}));
  ASSERT_TRUE(mounted);
  EXPECT_TRUE(mounted->state().needs_daemon);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(read_at(image.file(i), 0, kDeviceBytes).bytes, pattern(i, 0, kFileBytes)) << i;
  }
}

TEST_P(EngineConformance, LocalDevicesNeedNoDaemon) {
  if (engine_->serves_always()) GTEST_SKIP() << "this engine serves local devices, too";
  TestImage image(1);
  ASSERT_TRUE(replace_file(image.dir() / "d0", pattern(0, 0, kDeviceBytes)).ok());
  auto mounted = mount(image.spec({ImageDevice::local(image.dir() / "d0", kDeviceBytes)}));
  ASSERT_TRUE(mounted);
  EXPECT_FALSE(mounted->state().needs_daemon);
  EXPECT_EQ(mounted->device_fd(), -1);
  mounted.reset();
  server_ = nullptr;
  EXPECT_EQ(read_at(image.file(0), 0, kDeviceBytes).bytes, pattern(0, 0, kFileBytes));
}

TEST_P(EngineConformance, ALayerWithoutContentsIsAnEmptyDevice) {
  TestImage image({{probe_file("empty", 0)}, {probe_file("f", 100)}}, "empty");
  ASSERT_TRUE(replace_file(image.dir() / "d0", {}).ok());
  auto device = std::make_shared<TestDevice>(1, 4096);
  auto mounted = mount(
      image.spec({ImageDevice::local(image.dir() / "d0", 0), ImageDevice::virtual_file(device)}));
  ASSERT_TRUE(mounted);
  EXPECT_EQ(read_at(image.target() / "f", 0, 200).bytes, device->bytes(0, 100));
  EXPECT_TRUE(read_at(image.target() / "empty", 0, 200).bytes.empty());
}

TEST_P(EngineConformance, RefusesALocalDeviceOfAnotherSize) {
  TestImage image(1);
  for (const uint64_t size : {kDeviceBytes - 4096, kDeviceBytes + 4096, kDeviceBytes - 1}) {
    ASSERT_TRUE(replace_file(image.dir() / "d0", pattern(0, 0, size)).ok());
    auto mounted =
        engine_->mount(image.spec({ImageDevice::local(image.dir() / "d0", kDeviceBytes)}));
    ASSERT_FALSE(mounted.ok());
    EXPECT_EQ(mounted.error().code, Code::corrupt_input);
  }
}

// ---- Errors ----

TEST_P(EngineConformance, ADeviceErrorIsEioAndTheNextReadWorks) {
  using Mode = TestDevice::Mode;
  const std::vector<Mode> modes = {Mode::fail, Mode::drop, Mode::short_reply, Mode::long_reply};
  TestImage image(modes.size());
  auto devices = TestImage::devices(modes.size());
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  for (size_t i = 0; i < modes.size(); ++i) {
    devices[i]->set_mode(modes[i]);
    EXPECT_EQ(read_at(image.file(i), 0, 4096).error, EIO) << i;
    devices[i]->set_mode(Mode::inline_reply);
    EXPECT_EQ(read_at(image.file(i), 0, 4096).bytes, devices[i]->bytes(0, 4096)) << i;
  }
  EXPECT_EQ(mounted->stats().in_flight, 0u);
  EXPECT_EQ(mounted->stats().in_flight_bytes, 0u);
  EXPECT_GE(mounted->stats().read_errors, modes.size());
}

TEST_P(EngineConformance, ABlockedReaderCanBeKilled) {
  TestImage image(1);
  auto devices = TestImage::devices(1);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  devices[0]->set_mode(TestDevice::Mode::hold);
  ReaderProcess reader(image.file(0), 0, devices[0]->bytes(0, 4096));
  ASSERT_TRUE(devices[0]->wait_for_held(1));
  reader.signal(SIGKILL);
  EXPECT_EQ(reader.wait(), -SIGKILL);
  devices[0]->release();
  EXPECT_EQ(mounted->stats().in_flight, 0u);
  EXPECT_EQ(read_at(image.file(0), 0, 4096).bytes, devices[0]->bytes(0, 4096));
}

TEST_P(EngineConformance, AHarmlessSignalDoesNotFailAWaitingRead) {
  TestImage image(1);
  auto devices = TestImage::devices(1);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  devices[0]->set_mode(TestDevice::Mode::hold);
  ReaderProcess reader(image.file(0), 0, devices[0]->bytes(0, 4096));
  ASSERT_TRUE(devices[0]->wait_for_held(1));
  reader.signal(SIGUSR1);
  reader.signal(SIGUSR1);
  devices[0]->release();
  EXPECT_EQ(reader.wait(), 0);
}

TEST_P(EngineConformance, SlowReadsDoNotHoldUpHits) {
  constexpr size_t kSlow = 64;  // more than FUSE's default limit of 12
  TestImage image(kSlow + 1);
  auto devices = TestImage::devices(kSlow + 1);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  std::vector<std::unique_ptr<ReaderProcess>> readers;
  for (size_t i = 0; i < kSlow; ++i) {
    devices[i]->set_mode(TestDevice::Mode::hold);
    readers.push_back(
        std::make_unique<ReaderProcess>(image.file(i), 0, devices[i]->bytes(0, 4096)));
  }
  for (size_t i = 0; i < kSlow; ++i) ASSERT_TRUE(devices[i]->wait_for_held(1));
  ReaderProcess hit(image.file(kSlow), 0, devices[kSlow]->bytes(0, 100'000));
  EXPECT_EQ(hit.wait(), 0);
  for (size_t i = 0; i < kSlow; ++i) {
    devices[i]->release();
    EXPECT_EQ(readers[i]->wait(), 0);
  }
}

TEST_P(EngineConformance, AbortEndsWaitingReadersWithAnError) {
  TestImage image(1);
  auto devices = TestImage::devices(1);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  devices[0]->set_mode(TestDevice::Mode::hold);
  ReaderProcess reader(image.file(0), 0, devices[0]->bytes(0, 4096));
  ASSERT_TRUE(devices[0]->wait_for_held(1));
  EXPECT_TRUE(mounted->abort().ok());
  const int error = reader.wait();
  EXPECT_TRUE(error == EIO || error == ENOTCONN) << error;
  EXPECT_TRUE(mounted->wait_ended(kPatience).ok());
  devices[0]->release();  // answers to nobody
  EXPECT_TRUE(mounted->abort().ok());
}

// ---- Life and end ----

TEST_P(EngineConformance, UnmountingWhileUsedIsBusyOrLazy) {
  TestImage image(1);
  auto devices = TestImage::devices(1);
  std::atomic<int> ends{0};
  ImageSpec spec = image.spec(devices);
  spec.on_end = [&] { ++ends; };
  auto mounted = mount(std::move(spec));
  ASSERT_TRUE(mounted);
  UniqueFd user = open_file(image.file(0), O_RDONLY).value();
  const Status busy = mounted->unmount(UnmountMode::normal);
  ASSERT_FALSE(busy.ok());
  EXPECT_EQ(busy.error().sys_errno, EBUSY);

  EXPECT_TRUE(mounted->unmount(UnmountMode::lazy).ok());
  EXPECT_FALSE(is_mount_point(image.target()).value());
  Bytes bytes(kFileBytes);
  EXPECT_TRUE(pread_full(user.get(), bytes, 0).ok());
  EXPECT_EQ(bytes, devices[0]->bytes(0, kFileBytes));
  EXPECT_EQ(mounted->wait_ended(std::chrono::milliseconds(1)).error().code, Code::timeout);
  EXPECT_EQ(ends, 0);

  user.reset();
  EXPECT_TRUE(mounted->wait_ended(kPatience).ok());
  server_.reset();  // joins: on_end has run
  EXPECT_EQ(ends, 1);
}

// Whoever unmounts lazily may forget the mount: it is served to its end.
TEST_P(EngineConformance, AnUnmountedImageIsServedUntilItsLastUserIsGone) {
  TestImage image(1);
  auto devices = TestImage::devices(1);
  std::weak_ptr<TestDevice> device = devices[0];
  std::promise<void> end;
  ImageSpec spec = image.spec(devices);
  spec.on_end = [&] { end.set_value(); };
  auto mounted = mount(std::move(spec));
  ASSERT_TRUE(mounted);
  const Bytes expected = devices[0]->bytes(0, kFileBytes);
  devices.clear();
  UniqueFd user = open_file(image.file(0), O_RDONLY).value();
  ASSERT_TRUE(mounted->unmount(UnmountMode::lazy).ok());
  mounted.reset();
  Bytes bytes(kFileBytes);
  EXPECT_TRUE(pread_full(user.get(), bytes, 0).ok());
  EXPECT_EQ(bytes, expected);
  user.reset();
  ASSERT_EQ(end.get_future().wait_for(kPatience), std::future_status::ready);
  server_.reset();
  EXPECT_TRUE(device.expired());  // nothing keeps the layer
}

// The same over the death of its server: the descriptor is kept elsewhere.
TEST_P(EngineConformance, AnUnmountedImageIsContinuedByASuccessor) {
  TestImage image(2);
  auto devices = TestImage::devices(2);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  const ImageMountState state = mounted->state();
  if (!state.fuse.can_resend()) GTEST_SKIP() << "this kernel cannot send requests again";
  UniqueFd kept(::fcntl(mounted->device_fd(), F_DUPFD_CLOEXEC, 0));
  UniqueFd user = open_file(image.file(1), O_RDONLY).value();
  ASSERT_TRUE(mounted->unmount(UnmountMode::lazy).ok());
  mounted.reset();
  restart_server();

  std::promise<void> end;
  ImageSpec spec = image.spec(devices);
  spec.on_end = [&] { end.set_value(); };
  auto adopted = engine_->adopt_unmounted(std::move(spec), std::move(kept), state);
  ASSERT_TRUE(adopted.ok()) << adopted.error().message;
  adopted->reset();  // it is served to its end all the same
  Bytes bytes(kFileBytes);
  EXPECT_TRUE(pread_full(user.get(), bytes, 0).ok());
  EXPECT_EQ(bytes, devices[1]->bytes(0, kFileBytes));
  user.reset();
  EXPECT_EQ(end.get_future().wait_for(kPatience), std::future_status::ready);
}

TEST_P(EngineConformance, AnUnmountedImageWhoseUsersAreGoneEndsAtOnce) {
  TestImage image(1);
  auto devices = TestImage::devices(1);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  const ImageMountState state = mounted->state();
  if (!state.fuse.can_resend()) GTEST_SKIP() << "this kernel cannot send requests again";
  UniqueFd kept(::fcntl(mounted->device_fd(), F_DUPFD_CLOEXEC, 0));
  ASSERT_TRUE(mounted->unmount(UnmountMode::lazy).ok());
  ASSERT_TRUE(mounted->wait_ended(kPatience).ok());
  restart_server();
  auto adopted = engine_->adopt_unmounted(image.spec(devices), std::move(kept), state);
  ASSERT_TRUE(adopted.ok()) << adopted.error().message;
  EXPECT_TRUE((*adopted)->wait_ended(kPatience).ok());
}

// Other tests mount at the same time: only the test's own place counts.
inline size_t mounts_at(const std::filesystem::path& target) {
  const std::vector<MountEntry> table = load_mount_table().value();
  size_t count = 0;
  for (const MountEntry& entry : table) {
    if (entry.target == target.native()) ++count;
  }
  return count;
}

TEST_P(EngineConformance, LeavesNothingBehind) {
  const auto count = [](const char* dir) {
    return std::distance(std::filesystem::directory_iterator(dir), {});
  };
  TestImage image(5);
  const auto mounts = [&] { return mounts_at(image.target()); };
  auto devices = TestImage::devices(5);
  const auto fds_before = count("/proc/self/fd");
  const auto threads_before = count("/proc/self/task");
  const auto mounts_before = mounts();
  for (int i = 0; i < 20; ++i) {
    auto mounted = mount(image.spec(devices));
    ASSERT_TRUE(mounted);
    EXPECT_EQ(read_at(image.file(3), 0, 4096).bytes, devices[3]->bytes(0, 4096));
    EXPECT_EQ(mounts(), mounts_before + 1);  // the devices' mount is in no tree
    EXPECT_TRUE(mounted->unmount(UnmountMode::normal).ok());
    EXPECT_TRUE(mounted->unmount(UnmountMode::normal).ok());
    EXPECT_TRUE(mounted->wait_ended(kPatience).ok());
  }
  EXPECT_EQ(count("/proc/self/fd"), fds_before);
  EXPECT_EQ(count("/proc/self/task"), threads_before);
  EXPECT_EQ(mounts(), mounts_before);
}

TEST_P(EngineConformance, AFailedMountLeavesNothingBehind) {
  TestImage image(1);
  auto devices = TestImage::devices(2);  // one more than the image has
  const size_t before = mounts_at(image.target());
  auto mounted = engine_->mount(image.spec(devices));
  ASSERT_FALSE(mounted.ok());
  EXPECT_NE(mounted.error().message.find("test"), std::string::npos);
  EXPECT_EQ(mounts_at(image.target()), before);
}

TEST_P(EngineConformance, IsALowerOfAnOverlay) {
  TestImage image(2);
  auto devices = TestImage::devices(2);
  auto mounted = mount(image.spec(devices));
  ASSERT_TRUE(mounted);
  OverlaySpec overlay;
  overlay.lowers = {image.target()};
  overlay.upper = image.dir() / "upper";
  overlay.work = image.dir() / "work";
  overlay.features = detect_overlay_features();
  const auto target = image.dir() / "root";
  for (const auto& dir : {overlay.upper, overlay.work, target}) {
    ASSERT_TRUE(make_dirs(dir).ok());
  }
  const Status status = mount_overlay(overlay, target);
  ASSERT_TRUE(status.ok()) << status.error().message;
  EXPECT_EQ(read_at(target / "f0", 0, kFileBytes).bytes, devices[0]->bytes(0, kFileBytes));
  {
    UniqueFd fd = open_file(target / "f1", O_RDWR).value();  // copies up
    ASSERT_TRUE(pwrite_full(fd.get(), as_bytes("new"), 0).ok());
  }
  std::filesystem::remove(target / "f0");
  EXPECT_EQ(read_at(image.dir() / "upper" / "f1", 3, 1000).bytes, devices[1]->bytes(3, 1000));
  EXPECT_FALSE(std::filesystem::exists(target / "f0"));
  EXPECT_TRUE(std::filesystem::exists(image.file(0)));
  EXPECT_TRUE(unmount(target, UnmountMode::normal).ok());
}

}  // namespace pagein::mount::testing
