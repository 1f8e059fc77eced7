#include "mount/image_probe.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "mount/probe_image.h"

namespace pagein::mount {
namespace {

constexpr uint64_t kDeviceBytes = 64 << 10;
constexpr uint8_t kFill = 0xA5;

// A device whose reads can be made to fail.
class ProbeDevice : public DeviceFile {
 public:
  uint64_t size() const override { return kDeviceBytes; }
  void read(uint64_t, ReadReply reply) override {
    if (failing) return reply.error(EIO);
    reply.data(Bytes(reply.length(), kFill));
  }
  std::atomic<bool> failing{false};
};

// 0 and right bytes, or an errno; EILSEQ for wrong bytes.
int read_back(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno;
  UniqueFd file(fd);
  Bytes bytes(4096);
  const ssize_t n = ::pread(file.get(), bytes.data(), bytes.size(), 0);
  if (n < 0) return errno;
  const bool right = n == static_cast<ssize_t>(bytes.size()) &&
                     std::all_of(bytes.begin(), bytes.end(), [](uint8_t b) { return b == kFill; });
  return right ? 0 : EILSEQ;
}

// An image of one file. What an earlier probe left is used again: it needs no
// room on the disk.
struct Bench {
  std::filesystem::path dir;
  std::filesystem::path metadata() const { return dir / "metadata"; }
  std::filesystem::path target() const { return dir / "mnt"; }
  std::filesystem::path file() const { return target() / "file"; }

  static Result<Bench> make(const std::filesystem::path& scratch) {
    Bench bench{scratch};
    RETURN_IF_ERROR(make_dirs(bench.target()));
    RETURN_IF_ERROR(unmount(bench.target(), UnmountMode::lazy));  // a crash came meanwhile
    ASSIGN_OR_RETURN(const Bytes metadata, probe_image({{probe_file("file", kDeviceBytes)}}));
    const Result<std::string> kept = read_file(bench.metadata(), metadata.size());
    if (kept.ok() && std::ranges::equal(as_bytes(*kept), metadata)) return bench;
    RETURN_IF_ERROR(replace_file(bench.metadata(), metadata));
    return bench;
  }
};

ImageSpec probe_spec(const Bench& bench, std::shared_ptr<DeviceFile> device,
                     DeviceCaching caching) {
  ImageSpec spec;
  spec.id = "probe";
  spec.metadata = bench.metadata();
  spec.devices = {ImageDevice::virtual_file(std::move(device))};
  spec.target = bench.target();
  spec.caching = caching;
  return spec;
}

void unmount_now(ImageMount& image) {
  if (!image.unmount(UnmountMode::normal).ok()) (void)image.unmount(UnmountMode::lazy);
}

void probe_short_reads(Engine& engine, const Bench& bench, DeviceCaching caching,
                       EngineProbe& out) {
  ImageSpec spec = probe_spec(bench, std::make_shared<ProbeDevice>(), caching);
  spec.fault = FuseConnectionOptions::Fault::short_reads;
  Result<std::unique_ptr<ImageMount>> image = engine.mount(std::move(spec));
  if (!image.ok()) {
    out.findings.push_back("short reads: not tried: " + image.error().message);
    return;
  }
  const int error = read_back(bench.file());
  unmount_now(**image);
  if (error == EILSEQ) {
    out.findings.push_back(
        "a short device read comes out as zeros or cut on this kernel; answers here are never "
        "short");
  } else {
    out.findings.push_back("a short device read is an error to the reader, not zeros");
  }
}

// Whether everything that must hold does; findings say what was seen.
bool probe_mount(Engine& engine, const Bench& bench, DeviceCaching caching, EngineProbe& out) {
  const std::string mode = caching == DeviceCaching::direct ? "direct" : "buffered";
  auto device = std::make_shared<ProbeDevice>();
  Result<std::unique_ptr<ImageMount>> image = engine.mount(probe_spec(bench, device, caching));
  if (!image.ok()) {
    out.findings.push_back(mode + ": " + image.error().message);
    return false;
  }
  device->failing = true;
  const int failed = read_back(bench.file());
  device->failing = false;
  const int recovered = read_back(bench.file());
  out.takeover = out.takeover || (*image)->state().fuse.can_resend();
  out.fuse_flags |= (*image)->state().fuse.init_flags;
  const Status unmounted = (*image)->unmount(UnmountMode::normal);
  if (!unmounted.ok()) {
    (void)(*image)->unmount(UnmountMode::lazy);
    out.findings.push_back(mode + ": " + unmounted.error().message);
    return false;
  }
  if (failed != EIO) {
    out.findings.push_back(
        mode + ": a failed device read came out as " +
        (failed == 0 || failed == EILSEQ ? "data" : errno_error(failed, "").message));
    return false;
  }
  if (recovered != 0) {
    out.findings.push_back(mode + ": reading again after a failed device read did not work");
    return false;
  }
  out.findings.push_back(mode + ": mounts, reads, a failed device read is EIO, the next one works");
  return true;
}

}  // namespace

EngineProbe probe_engine(Engine& engine, const std::filesystem::path& scratch,
                         std::span<const DeviceCaching> modes) {
  EngineProbe out;
  out.engine = engine.name();
  Result<Bench> bench = Bench::make(scratch);
  if (!bench.ok()) {
    out.findings.push_back(bench.error().message);
    return out;
  }
  for (const DeviceCaching mode : modes) {
    const bool works = probe_mount(engine, *bench, mode, out);
    out.usable = out.usable || works;
    if (mode == DeviceCaching::direct) out.direct = works;
  }
  if (!out.usable) return out;
  const auto mode = out.direct ? DeviceCaching::direct : DeviceCaching::buffered;
  probe_short_reads(engine, *bench, mode, out);
  out.findings.push_back(out.takeover
                             ? "a restarted daemon can take mounts over (FUSE_NOTIFY_RESEND)"
                             : "no takeover: a restart of the daemon ends reads in flight with EIO "
                               "(needs kernel 6.9)");
  return out;
}

}  // namespace pagein::mount
