// Reads through EROFS over our FUSE device files: what the engine's defaults are
// chosen by. Run as root: mount_fuse_bench [scratch folder on a local disk].
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <fstream>
#include <random>
#include <thread>

#include "mount/engine.h"
#include "mount/probe_image.h"

namespace pagein::mount {
namespace {

using Clock = std::chrono::steady_clock;

constexpr uint64_t kDeviceBytes = 512ULL << 20;
constexpr int kRandomReads = 40'000;

enum class Source { memory, file };

class BenchDevice : public DeviceFile {
 public:
  BenchDevice(Source source, int fd) : source_(source), fd_(fd), zeros_(1 << 20, 1) {}
  uint64_t size() const override { return kDeviceBytes; }
  void read(uint64_t offset, ReadReply reply) override {
    if (source_ == Source::memory) return reply.data(ByteView(zeros_).first(reply.length()));
    reply.file(fd_, offset);
  }

 private:
  const Source source_;
  const int fd_;
  const Bytes zeros_;
};

struct Case {
  const char* name;
  unsigned threads;
  DeviceCaching caching;
  Source source;
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

struct Usage {
  double cpu;
  long switches;
};
Usage usage() {
  rusage u;
  getrusage(RUSAGE_SELF, &u);
  const auto seconds = [](timeval t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
  };
  return {seconds(u.ru_utime) + seconds(u.ru_stime), u.ru_nvcsw + u.ru_nivcsw};
}

void drop_caches() {
  ::sync();
  std::ofstream("/proc/sys/vm/drop_caches") << "1";
}

// The device file's own pages.
void warm(int fd) {
  Bytes buffer(1 << 20);
  for (uint64_t at = 0; at < kDeviceBytes; at += buffer.size()) {
    (void)pread_full(fd, buffer, at);
  }
}

void random_reads(int fd, int readers) {
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  std::vector<std::vector<double>> latencies(static_cast<size_t>(readers));
  const Usage before = usage();
  const auto start = Clock::now();
  std::vector<std::thread> threads;
  for (int r = 0; r < readers; ++r) {
    threads.emplace_back([&, r] {
      std::mt19937_64 random(static_cast<uint64_t>(r) + 1);
      Bytes buffer(4096);
      auto& out = latencies[static_cast<size_t>(r)];
      for (int i = 0; i < kRandomReads / readers; ++i) {
        const auto offset = static_cast<off_t>(random() % (kDeviceBytes / 4096) * 4096);
        const auto begin = Clock::now();
        if (::pread(fd, buffer.data(), buffer.size(), offset) != 4096) std::abort();
        out.push_back(seconds_since(begin) * 1e6);
      }
    });
  }
  for (auto& t : threads) t.join();
  const double took = seconds_since(start);
  const Usage after = usage();
  std::vector<double> all;
  for (auto& l : latencies) all.insert(all.end(), l.begin(), l.end());
  std::sort(all.begin(), all.end());
  std::printf(
      "  4K random x%d: %7.0f/s  p50 %5.1f us  p99 %6.1f us  %4.1f us CPU  %.1f switches a read\n",
      readers, kRandomReads / took, all[all.size() / 2], all[all.size() * 99 / 100],
      (after.cpu - before.cpu) * 1e6 / kRandomReads,
      static_cast<double>(after.switches - before.switches) / kRandomReads);
}

void sequential(int fd) {
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
  Bytes buffer(1 << 20);
  const Usage before = usage();
  const auto start = Clock::now();
  for (uint64_t at = 0; at < kDeviceBytes; at += buffer.size()) {
    if (::pread(fd, buffer.data(), buffer.size(), static_cast<off_t>(at)) < 1) std::abort();
  }
  const double took = seconds_since(start);
  const Usage after = usage();
  std::printf("  sequential:   %7.0f MB/s  %.2f s CPU a GB\n", kDeviceBytes / took / 1e6,
              (after.cpu - before.cpu) / (kDeviceBytes / 1e9));
}

int run(const std::filesystem::path& scratch) {
  auto dir = TempDir::make("pagein-bench-", scratch).value();
  const auto metadata = dir.path() / "metadata";
  const auto target = dir.path() / "mnt";
  const Bytes image = probe_image({{probe_file("file", kDeviceBytes)}}).value();
  if (!replace_file(metadata, image).ok()) return 1;
  if (!make_dirs(target).ok()) return 1;
  UniqueFd data = open_file(dir.path() / "data", O_RDWR | O_CREAT).value();
  const Bytes fill(1 << 20, 1);
  for (uint64_t at = 0; at < kDeviceBytes; at += fill.size()) {
    if (!pwrite_full(data.get(), fill, at).ok()) return 1;
  }
  const Case cases[] = {
      {"memory, directio, 1 thread", 1, DeviceCaching::direct, Source::memory},
      {"memory, directio, 2 threads", 2, DeviceCaching::direct, Source::memory},
      {"memory, directio, 4 threads", 4, DeviceCaching::direct, Source::memory},
      {"memory, buffered, 2 threads", 2, DeviceCaching::buffered, Source::memory},
      {"file, directio, 1 thread", 1, DeviceCaching::direct, Source::file},
      {"file, directio, 2 threads", 2, DeviceCaching::direct, Source::file},
      {"file, directio, 4 threads", 4, DeviceCaching::direct, Source::file},
      {"file, buffered, 2 threads", 2, DeviceCaching::buffered, Source::file},
  };
  for (const Case& c : cases) {
    auto server = FuseServer::start({c.threads}).value();
    auto engine = make_erofs_engine(*server);
    ImageSpec spec;
    spec.id = "bench";
    spec.metadata = metadata;
    spec.target = target;
    spec.caching = c.caching;
    spec.devices = {ImageDevice::virtual_file(std::make_shared<BenchDevice>(c.source, data.get()))};
    auto mounted = engine->mount(std::move(spec));
    if (!mounted.ok()) {
      std::fprintf(stderr, "%s\n", mounted.error().message.c_str());
      return 1;
    }
    std::printf("%s\n", c.name);
    if (c.source == Source::file) warm(data.get());
    for (const int readers : {1, 4}) {
      UniqueFd fd = open_file(target / "file", O_RDONLY).value();
      ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
      random_reads(fd.get(), readers);
    }
    const FuseStats before = (*mounted)->stats();
    drop_caches();
    if (c.source == Source::file) warm(data.get());
    sequential(open_file(target / "file", O_RDONLY).value().get());
    const FuseStats after = (*mounted)->stats();
    std::printf("  sequential request: %.0f KiB on average\n",
                static_cast<double>(after.read_bytes - before.read_bytes) / 1024.0 /
                    static_cast<double>(std::max<uint64_t>(1, after.reads - before.reads)));
    (void)(*mounted)->unmount(UnmountMode::normal);
  }
  return 0;
}

}  // namespace
}  // namespace pagein::mount

int main(int argc, char** argv) { return pagein::mount::run(argc > 1 ? argv[1] : "/var/tmp"); }
