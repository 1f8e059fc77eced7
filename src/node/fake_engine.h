// A mount engine and a service manager for tests. For tests only.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <set>
#include <string>

#include "base/file.h"
#include "mount/engine.h"

namespace pagein::node {

// A manager that keeps descriptors' names (sd_notify(3)).
class FakeManager {
 public:
  explicit FakeManager(const std::filesystem::path& dir) : path_((dir / "notify").native()) {
    socket_ = UniqueFd(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path_.copy(address.sun_path, sizeof address.sun_path - 1);
    if (::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      ADD_FAILURE() << "bind " << path_;
    }
    ::setenv("NOTIFY_SOCKET", path_.c_str(), 1);
  }
  ~FakeManager() { ::unsetenv("NOTIFY_SOCKET"); }

  // What is kept after all messages so far; the descriptors are closed.
  const std::multiset<std::string>& names() {
    for (;;) {
      char text[1024];
      char control[CMSG_SPACE(sizeof(int))];
      iovec vector{text, sizeof text};
      msghdr message{};
      message.msg_iov = &vector;
      message.msg_iovlen = 1;
      message.msg_control = control;
      message.msg_controllen = sizeof control;
      const ssize_t n = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
      if (n < 0) return names_;
      for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        int fd;
        std::memcpy(&fd, CMSG_DATA(c), sizeof fd);
        ::close(fd);
      }
      handle(std::string(text, static_cast<size_t>(n)));
    }
  }

 private:
  void handle(const std::string& message) {
    const size_t at = message.find("FDNAME=");
    const std::string name = message.substr(at + 7, message.find('\n', at) - at - 7);
    if (message.find("FDSTOREREMOVE=1") != std::string::npos) names_.erase(name);
    else if (message.find("FDSTORE=1") != std::string::npos) names_.insert(name);
  }
  const std::string path_;
  UniqueFd socket_;
  std::multiset<std::string> names_;
};

// Mounts a tmpfs where an engine would mount an image.
class FakeEngine : public mount::Engine {
 public:
  // Whether somebody has a file of the mounts open, also after their unmount.
  struct Uses {
    std::atomic<bool> used{false};
  };
  class Mount : public mount::ImageMount {
   public:
    Mount(std::filesystem::path target, mount::ImageMountState state, std::shared_ptr<Uses> uses)
        : target_(std::move(target)), state_(state), uses_(std::move(uses)) {
      if (state.needs_daemon) fd_ = open_file("/dev/null", O_RDWR).value();
    }
    const std::filesystem::path& target() const override { return target_; }
    mount::ImageMountState state() const override { return state_; }
    int device_fd() const override { return fd_.get(); }
    mount::FuseStats stats() const override { return {}; }
    Status unmount(mount::UnmountMode mode) override { return mount::unmount(target_, mode); }
    Status wait_ended(std::chrono::milliseconds) const override {
      if (!state_.needs_daemon || !uses_->used) return {};
      return Error(Code::timeout, "somebody has a file open");
    }
    Status abort() override { return {}; }

   private:
    const std::filesystem::path target_;
    const mount::ImageMountState state_;
    const std::shared_ptr<Uses> uses_;
    UniqueFd fd_;
  };

  std::string_view name() const override { return "fake"; }
  bool serves_always() const override { return kind == mount::EngineKind::fuse; }
  Result<std::unique_ptr<mount::ImageMount>> mount(mount::ImageSpec spec) override {
    if (fail) return Error(fail_code, "told to fail");
    EXPECT_GT(std::filesystem::file_size(spec.metadata), 0u);
    if (::mount("fake-image", spec.target.c_str(), "tmpfs", 0, "size=4k") != 0) {
      return errno_error(errno, "mount " + spec.target.string());
    }
    ++mounts;
    mount::ImageMountState state;
    state.engine = kind;
    state.needs_daemon = kind == mount::EngineKind::fuse;
    for (const mount::ImageDevice& device : spec.devices) {
      if (device.file != nullptr) state.needs_daemon = true;
    }
    state.fuse.connection = ++connections_;
    last = std::move(spec);
    return std::make_unique<Mount>(last.target, state, uses);
  }
  Result<std::unique_ptr<mount::ImageMount>> adopt(mount::ImageSpec spec, UniqueFd fd,
                                                   const mount::ImageMountState& state) override {
    if (fail_adopt) return Error(Code::unsupported, "told to fail");
    if (state.needs_daemon && !fd) return Error(Code::failed_precondition, "no descriptor");
    ++adoptions;
    last = std::move(spec);
    return std::make_unique<Mount>(last.target, state, uses);
  }
  Result<std::unique_ptr<mount::ImageMount>> adopt_unmounted(
      mount::ImageSpec spec, UniqueFd fd, const mount::ImageMountState& state) override {
    if (fail_adopt) return Error(Code::unsupported, "told to fail");
    EXPECT_TRUE(fd.valid());
    ++adoptions_unmounted;
    last = std::move(spec);
    return std::make_unique<Mount>(last.target, state, uses);
  }
  mount::EngineProbe probe(const std::filesystem::path&) override { return {.usable = true}; }

  mount::EngineKind kind = mount::EngineKind::erofs;
  std::atomic<bool> fail = false;
  Code fail_code = Code::unsupported;
  bool fail_adopt = false;
  int mounts = 0;
  int adoptions = 0;
  int adoptions_unmounted = 0;
  const std::shared_ptr<Uses> uses = std::make_shared<Uses>();
  mount::ImageSpec last;

 private:
  uint32_t connections_ = 0;
};

}  // namespace pagein::node
