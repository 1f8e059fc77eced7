// A connection read directly, without EROFS in between.
#include "mount/fuse_connection.h"

#include <sys/stat.h>

#include "mount/mount_test_support.h"

namespace pagein::mount::testing {
namespace {

class Connection : public ::testing::Test {
 protected:
  void SetUp() override {
    SKIP_UNLESS_ROOT();
    server_ = FuseServer::start({}).value();
  }
  void start(FuseConnectionOptions options) {
    options.name = "test";
    for (const auto& device : devices_) options.files.push_back(device);
    connection_ = FuseConnection::mount(*server_, std::move(options)).value();
    mount_ = connection_->take_mount();
  }
  std::string path(const std::string& name) const {
    return "/proc/self/fd/" + std::to_string(mount_.get()) + "/" + name;
  }

  std::vector<std::shared_ptr<TestDevice>> devices_ = TestImage::devices(12);
  std::unique_ptr<FuseServer> server_;
  std::unique_ptr<FuseConnection> connection_;
  UniqueFd mount_;
};

TEST_F(Connection, IsAFlatReadOnlyDirectory) {
  start({});
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(path(""))) {
    names.push_back(entry.path().filename());
    struct stat st;
    ASSERT_EQ(::stat(entry.path().c_str(), &st), 0);
    EXPECT_EQ(static_cast<uint64_t>(st.st_size), kDeviceBytes);
    EXPECT_EQ(st.st_mode, S_IFREG | 0400u);
  }
  EXPECT_EQ(names.size(), devices_.size());
  EXPECT_EQ(names[10], "10");
  for (const char* absent : {"12", "01", "1x", "-1", "4294967296", "x"}) {
    EXPECT_EQ(read_at(path(absent), 0, 1).error, ENOENT) << absent;
  }
  EXPECT_EQ(::open(path("0").c_str(), O_WRONLY), -1);
  EXPECT_EQ(errno, EROFS);
  EXPECT_EQ(read_at(path("11"), 77, 200'000).bytes, devices_[11]->bytes(77, 200'000));
  EXPECT_TRUE(read_at(path("0"), kDeviceBytes, 10).bytes.empty());
  EXPECT_EQ(connection_->stats().malformed, 0u);
}

TEST_F(Connection, FileAnswersComeFromTheFileOrAreEio) {
  class Backed : public DeviceFile {
   public:
    explicit Backed(int fd) : fd_(fd) {}
    uint64_t size() const override { return kDeviceBytes; }
    void read(uint64_t offset, ReadReply reply) override { reply.file(fd_, offset); }
    std::atomic<int> fd_;
  };
  TempDir dir = TempDir::make("pagein-conn-").value();
  ASSERT_TRUE(replace_file(dir.path() / "d", pattern(3, 0, kDeviceBytes - 4096)).ok());
  UniqueFd data = open_file(dir.path() / "d", O_RDONLY).value();
  FuseConnectionOptions options;
  options.name = "test";
  auto device = std::make_shared<Backed>(data.get());
  options.files = {device};
  connection_ = FuseConnection::mount(*server_, std::move(options)).value();
  mount_ = connection_->take_mount();
  EXPECT_EQ(read_at(path("0"), 5, 100'000).bytes, pattern(3, 5, 100'000));
  EXPECT_EQ(read_at(path("0"), 100'000, 100).bytes,
            pattern(3, 100'000, 100));  // too small to splice
  for (const uint64_t length : {8192, 40'960}) {
    EXPECT_EQ(read_at(path("0"), kDeviceBytes - length, length).error, EIO) << length;
    EXPECT_EQ(read_at(path("0"), 4096, length).bytes, pattern(3, 4096, length)) << length;
  }
  device->fd_ = -1;
  EXPECT_EQ(read_at(path("0"), 0, 100'000).error, EIO);
}

TEST_F(Connection, ReadsAreUpToAMegabyte) {
  auto big = std::make_shared<TestDevice>(5, 4 << 20);
  devices_ = {big};
  start({});
  EXPECT_EQ(read_at(path("0"), 0, 4 << 20).bytes, big->bytes(0, 4 << 20));
  EXPECT_LE(connection_->stats().reads, 5u);  // an unaligned buffer costs one more
}

TEST_F(Connection, AboveTheCapRequestsWaitInTheKernel) {
  FuseConnectionOptions options;
  options.max_in_flight_reads = 4;
  start(std::move(options));
  for (auto& device : devices_) device->set_mode(TestDevice::Mode::hold);
  std::vector<std::unique_ptr<ReaderProcess>> readers;
  for (size_t i = 0; i < devices_.size(); ++i) {
    // The child's copy of the mount is closed: the path is this process's.
    const std::string name = "/proc/" + std::to_string(::getpid()) + "/fd/" +
                             std::to_string(mount_.get()) + "/" + std::to_string(i);
    readers.push_back(std::make_unique<ReaderProcess>(name, 0, devices_[i]->bytes(0, 4096)));
  }
  const auto held = [&] {
    size_t sum = 0;
    for (auto& device : devices_) sum += device->held();
    return sum;
  };
  while (held() < 4) std::this_thread::yield();
  EXPECT_LE(connection_->stats().in_flight, 4u + 1u);  // each of two threads checks before it reads
  // Answer one after another: the rest get their turn.
  for (bool running = true; running;) {
    for (auto& device : devices_) {
      if (device->held() > 0) device->release();
    }
    running = std::any_of(readers.begin(), readers.end(), [](auto& r) { return r->running(); });
    std::this_thread::yield();
  }
  for (auto& reader : readers) EXPECT_EQ(reader->wait(), 0);
  EXPECT_EQ(connection_->stats().in_flight, 0u);
}

TEST_F(Connection, EndsWhenNobodyHasAFileOpen) {
  std::atomic<int> ends{0};
  FuseConnectionOptions options;
  options.on_end = [&] { ++ends; };
  start(std::move(options));
  UniqueFd file = open_file(path("0"), O_RDONLY).value();
  mount_.reset();
  EXPECT_FALSE(connection_->ended());
  Bytes bytes(100);
  EXPECT_TRUE(pread_full(file.get(), bytes, 0).ok());
  file.reset();
  EXPECT_TRUE(connection_->wait_ended(kPatience).ok());
  connection_.reset();
  server_.reset();
  EXPECT_EQ(ends, 1);
}

TEST_F(Connection, RefusesAFileThatIsNotWholeBlocks) {
  FuseConnectionOptions options;
  options.files = {std::make_shared<TestDevice>(1, 5000)};
  EXPECT_EQ(FuseConnection::mount(*server_, std::move(options)).error().code,
            Code::invalid_argument);
}

TEST_F(Connection, AnswersAfterTheEndGoNowhere) {
  start({});
  devices_[0]->set_mode(TestDevice::Mode::hold);
  ReaderProcess reader(
      "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(mount_.get()) + "/0", 0,
      devices_[0]->bytes(0, 4096));
  ASSERT_TRUE(devices_[0]->wait_for_held(1));
  connection_.reset();
  server_.reset();
  mount_.reset();
  EXPECT_TRUE(reader.running());  // the held read keeps the descriptor
  devices_[0]->release();
  EXPECT_EQ(reader.wait(), 0);
}

}  // namespace
}  // namespace pagein::mount::testing
