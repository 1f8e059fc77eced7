// What the tests of mounts share: devices with known bytes, an image of them in a
// temporary folder, readers in other processes.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <mutex>
#include <thread>

#include "erofs/reader.h"
#include "mount/engine.h"
#include "mount/probe_image.h"

#define SKIP_UNLESS_ROOT() \
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount"

namespace pagein::mount::testing {

struct EngineFactory {
  std::string name;
  std::function<std::unique_ptr<Engine>(FuseServer&)> make;
  DeviceCaching caching = DeviceCaching::direct;
};
inline void PrintTo(const EngineFactory& factory, std::ostream* out) { *out << factory.name; }

inline std::unique_ptr<Engine> loop_engine(FuseServer& server) {
  return make_erofs_loop_engine(server);
}
inline std::unique_ptr<Engine> flat_engine(FuseServer& server) {
  return make_erofs_loop_engine(server, LoopLayout::flat);
}

inline std::string factory_name(const ::testing::TestParamInfo<EngineFactory>& info) {
  return info.param.name;
}

inline constexpr std::chrono::milliseconds kPatience = std::chrono::seconds(20);

// The bytes of device `seed` at `offset`: different everywhere, never all zero.
inline Bytes pattern(uint64_t seed, uint64_t offset, size_t length) {
  Bytes out(length);
  for (size_t i = 0; i < length; ++i) {
    const uint64_t word = (offset + i) / 8;
    uint64_t x = (seed + 1) * 0x9E3779B97F4A7C15ULL + word * 0xBF58476D1CE4E5B9ULL;
    x ^= x >> 29;
    out[i] = static_cast<uint8_t>(x >> (8 * ((offset + i) % 8)) | 1);
  }
  return out;
}

// Answers at once, from another thread, when told to, or not at all.
class TestDevice : public DeviceFile {
 public:
  enum class Mode { inline_reply, other_thread, hold, fail, drop, short_reply, long_reply };

  TestDevice(uint64_t seed, uint64_t size) : core_(std::make_shared<Core>()) {
    core_->seed = seed;
    core_->size = size;
  }
  // With content of its own, padded to whole blocks.
  explicit TestDevice(Bytes content) : core_(std::make_shared<Core>()) {
    content.resize((content.size() + 4095) / 4096 * 4096);
    core_->size = content.size();
    core_->content = std::move(content);
  }
  // Perhaps on the answering thread, whose reply was the last to hold a session
  // with this device.
  ~TestDevice() override {
    {
      std::lock_guard lock(core_->mutex);
      core_->stopping = true;
    }
    core_->changed.notify_all();
    if (answerer_.get_id() == std::this_thread::get_id()) answerer_.detach();
    if (answerer_.joinable()) answerer_.join();
  }

  uint64_t size() const override { return core_->size; }

  void read(uint64_t offset, ReadReply reply) override {
    ++reads;
    if (on_read) on_read();
    std::unique_lock lock(core_->mutex);
    switch (core_->mode) {
      case Mode::inline_reply: lock.unlock(); return reply.data(bytes(offset, reply.length()));
      case Mode::other_thread:
        if (!answerer_.joinable()) answerer_ = std::thread(answer_all, core_);
        [[fallthrough]];
      case Mode::hold:
        core_->waiting.push_back({offset, std::move(reply)});
        core_->changed.notify_all();
        return;
      case Mode::fail: return reply.error(ENXIO);
      case Mode::drop: return;
      case Mode::short_reply: return reply.data(bytes(offset, reply.length() - 1));
      case Mode::long_reply: return reply.data(bytes(offset, reply.length() + 1));
    }
  }

  void set_mode(Mode mode) {
    std::lock_guard lock(core_->mutex);
    core_->mode = mode;
  }
  // Whether `count` held reads are there within the patience.
  bool wait_for_held(size_t count) {
    std::unique_lock lock(core_->mutex);
    return core_->changed.wait_for(lock, kPatience, [&] { return core_->waiting.size() >= count; });
  }
  size_t held() {
    std::lock_guard lock(core_->mutex);
    return core_->waiting.size();
  }
  // Answers what is held; what comes from now on is answered inline.
  void release() {
    std::deque<Held> held;
    {
      std::lock_guard lock(core_->mutex);
      core_->mode = Mode::inline_reply;
      held.swap(core_->waiting);
    }
    for (Held& h : held) h.reply.data(bytes(h.offset, h.reply.length()));
  }

  Bytes bytes(uint64_t offset, size_t length) const { return core_->bytes(offset, length); }

  std::atomic<uint64_t> reads{0};
  std::function<void()> on_read;  // set before mounting

 private:
  struct Held {
    uint64_t offset;
    ReadReply reply;
  };
  // What the answering thread needs, also when the device is gone.
  struct Core {
    uint64_t seed = 0;
    uint64_t size = 0;
    Bytes content;
    std::mutex mutex;
    std::condition_variable changed;
    Mode mode = Mode::inline_reply;
    bool stopping = false;
    std::deque<Held> waiting;

    Bytes bytes(uint64_t offset, size_t length) const {
      if (content.empty()) return pattern(seed, offset, length);
      Bytes out(length);
      const size_t have = offset < size ? std::min<size_t>(length, size - offset) : 0;
      std::copy_n(content.begin() + static_cast<std::ptrdiff_t>(offset), have, out.begin());
      return out;
    }
  };
  // Last in, first out, so that answers come in another order than requests.
  static void answer_all(const std::shared_ptr<Core>& core) {
    std::unique_lock lock(core->mutex);
    while (!core->stopping) {
      if (core->mode != Mode::other_thread || core->waiting.empty()) {
        core->changed.wait(lock);
        continue;
      }
      Held held = std::move(core->waiting.back());
      core->waiting.pop_back();
      lock.unlock();
      held.reply.data(core->bytes(held.offset, held.reply.length()));
      lock.lock();
    }
  }

  const std::shared_ptr<Core> core_;
  std::thread answerer_;
};

// Device i (from 0) backs the file "f<i>" of kFileBytes.
inline constexpr uint64_t kDeviceBytes = 256 << 10;
inline constexpr uint64_t kFileBytes = kDeviceBytes - 1000;

inline std::string file_name(size_t i) { return "f" + std::to_string(i); }

// A metadata file and a target in a temporary folder on disk.
class TestImage {
 public:
  explicit TestImage(size_t devices, const std::string& id = "test")
      : TestImage(layers(devices), id) {}
  TestImage(std::vector<std::vector<tar::Entry>> layers, const std::string& id,
            const tree::MergeOptions& options = {})
      : dir_(TempDir::make("pagein-mount-", "/var/tmp").value()), id_(id) {
    EXPECT_TRUE(make_dirs(target()).ok());
    const Result<Bytes> metadata = probe_image(std::move(layers), options);
    EXPECT_TRUE(metadata.ok());
    metadata_ = *metadata;
    EXPECT_TRUE(replace_file(dir_.path() / "metadata", *metadata).ok());
  }
  ~TestImage() { (void)unmount(target(), UnmountMode::lazy); }

  std::filesystem::path target() const { return dir_.path() / "mnt"; }
  std::filesystem::path dir() const { return dir_.path(); }
  std::filesystem::path file(size_t i) const { return target() / file_name(i); }

  uint64_t device_bytes(size_t i) const {
    return erofs::Reader::open(metadata_)->devices()[i].blocks * 4096;
  }

  ImageSpec spec(std::vector<ImageDevice> devices) const {
    ImageSpec spec;
    spec.id = id_;
    spec.metadata = dir_.path() / "metadata";
    spec.target = target();
    spec.devices = std::move(devices);
    return spec;
  }
  ImageSpec spec(const std::vector<std::shared_ptr<TestDevice>>& devices) const {
    std::vector<ImageDevice> list;
    for (const auto& device : devices) list.push_back(ImageDevice::virtual_file(device));
    return spec(std::move(list));
  }

  static std::vector<std::shared_ptr<TestDevice>> devices(size_t count) {
    std::vector<std::shared_ptr<TestDevice>> out;
    for (size_t i = 0; i < count; ++i) out.push_back(std::make_shared<TestDevice>(i, kDeviceBytes));
    return out;
  }

 private:
  static std::vector<std::vector<tar::Entry>> layers(size_t devices) {
    std::vector<std::vector<tar::Entry>> out;
    for (size_t i = 0; i < devices; ++i) out.push_back({probe_file(file_name(i), kFileBytes)});
    return out;
  }

  TempDir dir_;
  const std::string id_;
  Bytes metadata_;
};

// The file's bytes, or the errno.
struct ReadResult {
  int error = 0;
  Bytes bytes;
};
inline ReadResult read_at(const std::filesystem::path& path, uint64_t offset, size_t length) {
  ReadResult out;
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) return {errno, {}};
  out.bytes.resize(length);
  size_t done = 0;
  while (done < length) {
    const ssize_t n = ::pread(fd.get(), out.bytes.data() + done, length - done,
                              static_cast<off_t>(offset + done));
    if (n < 0) return {errno, {}};
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  out.bytes.resize(done);
  return out;
}

// Forgets the cached pages of a file.
inline void drop_cache(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
}

// Another process that reads part of a file and compares. Killed if still there
// at the end.
class ReaderProcess {
 public:
  static constexpr int kWrongBytes = 200;

  // uid 0: stay root.
  ReaderProcess(const std::filesystem::path& path, uint64_t offset, const Bytes& expected,
                unsigned uid = 0) {
    const std::string name = path.native();
    Bytes got(expected.size());
    pid_ = ::fork();
    if (pid_ == 0) {  // only async-signal-safe calls from here
      struct sigaction action {};
      action.sa_handler = [](int) {};
      ::sigaction(SIGUSR1, &action, nullptr);
      // A copy of a FUSE descriptor would keep a dead daemon's connection alive.
      ::syscall(SYS_close_range, 3u, ~0u, 0u);
      const int fd = ::open(name.c_str(), O_RDONLY);
      if (fd < 0) ::_exit(errno);
      if (uid != 0 && ::syscall(SYS_setresuid, uid, uid, uid) != 0) ::_exit(errno);
      const ssize_t n = ::pread(fd, got.data(), got.size(), static_cast<off_t>(offset));
      if (n < 0) ::_exit(errno);
      ::_exit(static_cast<size_t>(n) == got.size() && got == expected ? 0 : kWrongBytes);
    }
  }
  ReaderProcess(const ReaderProcess&) = delete;
  ~ReaderProcess() {
    if (pid_ > 0 && !reaped_) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }

  void signal(int number) { ::kill(pid_, number); }

  bool running() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
  }

  // The exit code (0: right bytes; an errno; kWrongBytes), -signal, or -1000
  // where it does not end within the patience.
  int wait() {
    UniqueFd handle(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    pollfd p{handle.get(), POLLIN, 0};
    if (::poll(&p, 1, static_cast<int>(kPatience.count())) != 1) return -1000;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    reaped_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  }

 private:
  pid_t pid_ = -1;
  bool reaped_ = false;
};

}  // namespace pagein::mount::testing
