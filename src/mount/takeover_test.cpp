// A daemon that dies with kill -9 while readers wait, and its successor.
#include <sys/socket.h>
#include <sys/un.h>

#include <cstring>

#include "mount/fd_store.h"
#include "mount/mount_test_support.h"

namespace pagein::mount::testing {
namespace {

// Plays the service manager: a datagram socket that takes FDSTORE messages.
class FakeManager {
 public:
  explicit FakeManager(const std::filesystem::path& dir) : path_(dir / "notify") {
    socket_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  const std::filesystem::path& path() const { return path_; }

  // The next message and its descriptor, if it brings one.
  std::pair<std::string, UniqueFd> receive() {
    char text[4096];
    iovec data{text, sizeof text};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(ucred))];
    msghdr message{};
    message.msg_iov = &data;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    pollfd p{socket_.get(), POLLIN, 0};
    if (::poll(&p, 1, static_cast<int>(kPatience.count())) != 1) return {"", UniqueFd()};
    const ssize_t n = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    UniqueFd fd;
    for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
      if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
        int value;
        std::memcpy(&value, CMSG_DATA(c), sizeof value);
        fd = UniqueFd(value);
      }
    }
    return {std::string(text, n > 0 ? static_cast<size_t>(n) : 0), std::move(fd)};
  }

 private:
  std::filesystem::path path_;
  UniqueFd socket_;
};

// One image's part of a daemon that will die.
struct Left {
  std::unique_ptr<TestImage> image;
  UniqueFd fd;
  ImageMountState state;
};

// A daemon in a child process: mounts the images with devices that hold every
// read, hands its descriptors to the manager, reports its states, then a byte for
// each read, and waits for its end.
class DoomedDaemon {
 public:
  DoomedDaemon(const EngineFactory& factory, size_t images, size_t devices)
      : factory_(factory),
        dir_(TempDir::make("pagein-takeover-", "/var/tmp").value()),
        manager_(dir_.path()) {
    for (size_t i = 0; i < images; ++i) {
      left_.push_back({std::make_unique<TestImage>(devices, "image" + std::to_string(i)), {}, {}});
    }
    int states[2], reads[2];
    EXPECT_EQ(::pipe2(states, O_CLOEXEC), 0);
    EXPECT_EQ(::pipe2(reads, O_CLOEXEC), 0);
    states_ = UniqueFd(states[0]);
    reads_ = UniqueFd(reads[0]);
    UniqueFd states_to(states[1]), reads_to(reads[1]);
    pid_ = ::fork();
    if (pid_ == 0) ::_exit(serve(devices, states_to.get(), reads_to.get()));
    states_to.reset();
    reads_to.reset();
    for (Left& left : left_) {
      auto [message, fd] = manager_.receive();
      EXPECT_TRUE(fd.valid()) << message;
      EXPECT_NE(message.find("FDSTORE=1"), std::string::npos);
      EXPECT_NE(message.find("FDPOLL=0"), std::string::npos);
      left.fd = std::move(fd);
      EXPECT_EQ(::read(states_.get(), &left.state, sizeof left.state),
                static_cast<ssize_t>(sizeof left.state));
    }
  }
  ~DoomedDaemon() { kill(); }

  std::vector<Left>& left() { return left_; }

  // Whether the daemon got `count` more reads.
  bool wait_for_reads(size_t count) {
    char byte;
    for (size_t i = 0; i < count; ++i) {
      pollfd p{reads_.get(), POLLIN, 0};
      if (::poll(&p, 1, static_cast<int>(kPatience.count())) != 1) return false;
      if (::read(reads_.get(), &byte, 1) != 1) return false;
    }
    return true;
  }

  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  int serve(size_t devices, int states, int reads) {
    static_assert(std::is_trivially_copyable_v<ImageMountState>);
    ::setenv("NOTIFY_SOCKET", manager_.path().c_str(), 1);
    auto server = FuseServer::start({}).value();
    auto engine = factory_.make(*server);
    std::vector<std::unique_ptr<ImageMount>> mounts;
    for (Left& left : left_) {
      auto files = TestImage::devices(devices);
      for (auto& file : files) {
        file->set_mode(TestDevice::Mode::hold);
        file->on_read = [reads] { (void)!::write(reads, "r", 1); };
      }
      auto mounted = engine->mount(left.image->spec(files));
      if (!mounted.ok()) return 1;
      mounts.push_back(std::move(*mounted));
      if (!FdStore().put("image", mounts.back()->device_fd()).ok()) return 2;
      const ImageMountState state = mounts.back()->state();
      if (::write(states, &state, sizeof state) != sizeof state) return 3;
    }
    for (;;) ::pause();
  }

  const EngineFactory factory_;
  TempDir dir_;
  FakeManager manager_;
  std::vector<Left> left_;
  UniqueFd states_, reads_;
  pid_t pid_ = -1;
};

class Takeover : public ::testing::TestWithParam<EngineFactory> {
 protected:
  void SetUp() override {
    SKIP_UNLESS_ROOT();
    auto server = FuseServer::start({}).value();
    const TempDir scratch = TempDir::make("pagein-probe-", "/var/tmp").value();
    const EngineProbe probe = GetParam().make(*server)->probe(scratch.path());
    if (!probe.usable) GTEST_SKIP() << "this engine does not work here: " << probe.findings[0];
  }

  // Becomes the successor for one image.
  std::unique_ptr<ImageMount> adopt(Left& left,
                                    const std::vector<std::shared_ptr<TestDevice>>& devices) {
    if (!server_) {
      server_ = FuseServer::start({}).value();
      engine_ = GetParam().make(*server_);
    }
    auto adopted = engine_->adopt(left.image->spec(devices), std::move(left.fd), left.state);
    if (adopted.ok()) return std::move(*adopted);
    ADD_FAILURE() << adopted.error().message;
    return nullptr;
  }

  std::unique_ptr<FuseServer> server_;
  std::unique_ptr<Engine> engine_;
};

#define SKIP_UNLESS_RESEND(daemon)                                 \
  if (!(daemon).left()[0].state.fuse.can_resend()) {               \
    GTEST_SKIP() << "this kernel has no FUSE_NOTIFY_RESEND (6.9)"; \
  }

TEST_P(Takeover, ABlockedReaderGetsRightBytesFromTheSuccessor) {
  DoomedDaemon daemon(GetParam(), 1, 2);
  SKIP_UNLESS_RESEND(daemon);
  Left& left = daemon.left()[0];
  auto devices = TestImage::devices(2);
  ReaderProcess before(left.image->file(0), 0, devices[0]->bytes(0, 100'000));
  ASSERT_TRUE(daemon.wait_for_reads(1));
  daemon.kill();
  EXPECT_TRUE(before.running());
  // One that comes while nobody serves.
  ReaderProcess between(left.image->file(1), 5000, devices[1]->bytes(5000, 100'000));
  auto adopted = adopt(left, devices);
  ASSERT_TRUE(adopted);
  EXPECT_EQ(before.wait(), 0);
  EXPECT_EQ(between.wait(), 0);
  EXPECT_GE(adopted->stats().resent, 1u);
  EXPECT_EQ(read_at(left.image->file(1), 0, kFileBytes).bytes, devices[1]->bytes(0, kFileBytes));
  EXPECT_TRUE(adopted->unmount(UnmountMode::normal).ok());
  EXPECT_TRUE(adopted->wait_ended(kPatience).ok());
}

TEST_P(Takeover, AHundredMountsGoOn) {
  constexpr size_t kMounts = 100;
  DoomedDaemon daemon(GetParam(), kMounts, 1);
  SKIP_UNLESS_RESEND(daemon);
  auto devices = TestImage::devices(1);
  std::vector<std::unique_ptr<ReaderProcess>> readers;
  for (Left& left : daemon.left()) {
    readers.push_back(
        std::make_unique<ReaderProcess>(left.image->file(0), 0, devices[0]->bytes(0, 4096)));
  }
  ASSERT_TRUE(daemon.wait_for_reads(kMounts));
  daemon.kill();
  std::vector<std::unique_ptr<ImageMount>> mounts;
  for (Left& left : daemon.left()) {
    mounts.push_back(adopt(left, devices));
    ASSERT_TRUE(mounts.back());
  }
  for (auto& reader : readers) EXPECT_EQ(reader->wait(), 0);
  for (auto& mount : mounts) {
    EXPECT_TRUE(mount->unmount(UnmountMode::normal).ok());
    EXPECT_TRUE(mount->wait_ended(kPatience).ok());
  }
}

TEST_P(Takeover, WithoutASuccessorReadersGetErrors) {
  DoomedDaemon daemon(GetParam(), 1, 1);
  Left& left = daemon.left()[0];
  ReaderProcess reader(left.image->file(0), 0, pattern(0, 0, 4096));
  ASSERT_TRUE(daemon.wait_for_reads(1));
  left.fd.reset();
  daemon.kill();
  const auto gone = [](int error) { return error == EIO || error == ENOTCONN; };
  EXPECT_TRUE(gone(reader.wait()));
  EXPECT_TRUE(gone(read_at(left.image->file(0), 0, 4096).error));
}

// An upgrade: the old daemon lets go, the new one takes over, and is itself
// replaced; a late answer of the old one is nobody's.
TEST_P(Takeover, MountsPassFromHandToHand) {
  server_ = FuseServer::start({}).value();
  engine_ = GetParam().make(*server_);
  TestImage image(1);
  auto first_device = TestImage::devices(1);
  first_device[0]->set_mode(TestDevice::Mode::hold);
  auto first = engine_->mount(image.spec(first_device)).value();
  if (!first->state().fuse.can_resend()) GTEST_SKIP() << "this kernel has no FUSE_NOTIFY_RESEND";
  ReaderProcess reader(image.file(0), 0, first_device[0]->bytes(0, 4096));
  ASSERT_TRUE(first_device[0]->wait_for_held(1));
  const ImageMountState state = first->state();
  UniqueFd stored(::fcntl(first->device_fd(), F_DUPFD_CLOEXEC, 0));
  first.reset();

  auto second_device = TestImage::devices(1);
  second_device[0]->set_mode(TestDevice::Mode::hold);
  UniqueFd again(::fcntl(stored.get(), F_DUPFD_CLOEXEC, 0));
  auto second = engine_->adopt(image.spec(second_device), std::move(again), state).value();
  ASSERT_TRUE(second_device[0]->wait_for_held(1));
  first_device[0]->release();
  EXPECT_TRUE(reader.running());
  EXPECT_EQ(second->state().fuse.connection, state.fuse.connection);
  second.reset();

  auto third_device = TestImage::devices(1);
  auto third = engine_->adopt(image.spec(third_device), std::move(stored), state).value();
  EXPECT_EQ(reader.wait(), 0);
  second_device[0]->release();
  EXPECT_EQ(read_at(image.file(0), 100'000, 4096).bytes, third_device[0]->bytes(100'000, 4096));
  EXPECT_TRUE(third->unmount(UnmountMode::normal).ok());
  EXPECT_TRUE(third->wait_ended(kPatience).ok());
}

TEST_P(Takeover, RefusesWhatCannotWork) {
  server_ = FuseServer::start({}).value();
  engine_ = GetParam().make(*server_);
  TestImage image(1);
  auto devices = TestImage::devices(1);
  auto nothing = engine_->adopt(image.spec(devices), UniqueFd(), {true, {}});
  EXPECT_EQ(nothing.error().code, Code::not_found);

  auto mounted = engine_->mount(image.spec(devices)).value();
  const ImageMountState state = mounted->state();
  auto no_fd = engine_->adopt(image.spec(devices), UniqueFd(), state);
  EXPECT_EQ(no_fd.error().code, Code::failed_precondition);

  const auto copy = [&] { return UniqueFd(::fcntl(mounted->device_fd(), F_DUPFD_CLOEXEC, 0)); };
  ImageMountState unborn = state;
  unborn.fuse.protocol_minor = 0;
  EXPECT_EQ(engine_->adopt(image.spec(devices), copy(), unborn).error().code,
            Code::failed_precondition);
  ImageMountState old = state;
  old.fuse.init_flags = 0;
  EXPECT_EQ(engine_->adopt(image.spec(devices), copy(), old).error().code, Code::unsupported);
}

INSTANTIATE_TEST_SUITE_P(Engines, Takeover,
                         ::testing::Values(EngineFactory{"Erofs", make_erofs_engine},
                                           EngineFactory{"ErofsLoop", loop_engine},
                                           EngineFactory{"ErofsLoopFlat", flat_engine},
                                           EngineFactory{"Fuse", make_fuse_engine}),
                         factory_name);

}  // namespace
}  // namespace pagein::mount::testing
