#include "mount/erofs_probe.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>

#include "mount/fs_context.h"
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

// Reads through a mount on `connection`'s devices, then unmounts.
Result<int> read_over_faulty_fuse(FuseServer& server, const Bench& bench) {
  FuseConnectionOptions options;
  options.name = "probe";
  options.files = {std::make_shared<ProbeDevice>()};
  options.fault = FuseConnectionOptions::Fault::short_reads;
  ASSIGN_OR_RETURN(std::unique_ptr<FuseConnection> connection,
                   FuseConnection::mount(server, std::move(options)));
  const UniqueFd devices = connection->take_mount();
  ASSIGN_OR_RETURN(FsContext context, FsContext::open("erofs"));
  RETURN_IF_ERROR(context.set_path("source", bench.metadata()));
  RETURN_IF_ERROR(
      context.set_string("device", "/proc/self/fd/" + std::to_string(devices.get()) + "/0"));
  RETURN_IF_ERROR(context.set_flag("directio"));
  RETURN_IF_ERROR(context.set_flag("ro"));
  ASSIGN_OR_RETURN(UniqueFd mount, context.create(MOUNT_ATTR_RDONLY));
  return read_back("/proc/self/fd/" + std::to_string(mount.get()) + "/file");
}

void probe_short_reads(FuseServer& server, const Bench& bench, EngineProbe& out) {
  Result<int> error = read_over_faulty_fuse(server, bench);
  if (!error.ok()) {
    out.findings.push_back("short reads: not tried: " + error.error().message);
  } else if (*error == EILSEQ) {
    out.findings.push_back(
        "short device reads come out as zeros on this kernel; answers here are never short");
  } else {
    out.findings.push_back("a short device read is an error to the reader, not zeros");
  }
}

// Whether everything that must hold does; findings say what was seen.
bool probe_mount(Engine& engine, const Bench& bench, DeviceCaching caching, EngineProbe& out) {
  const std::string mode = caching == DeviceCaching::direct ? "directio" : "buffered";
  auto device = std::make_shared<ProbeDevice>();
  ImageSpec spec;
  spec.id = "probe";
  spec.metadata = bench.metadata();
  spec.devices = {ImageDevice::virtual_file(device)};
  spec.target = bench.target();
  spec.caching = caching;
  Result<std::unique_ptr<ImageMount>> image = engine.mount(spec);
  if (!image.ok()) {
    out.findings.push_back(mode + ": " + image.error().message);
    return false;
  }
  device->failing = true;
  const int failed = read_back(bench.file());
  device->failing = false;
  const int recovered = read_back(bench.file());
  out.takeover = out.takeover || (*image)->state().fuse.can_resend();
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

EngineProbe probe_erofs(Engine& engine, FuseServer& server, const std::filesystem::path& scratch) {
  EngineProbe out;
  Result<Bench> bench = Bench::make(scratch);
  if (!bench.ok()) {
    out.findings.push_back(bench.error().message);
    return out;
  }
  const bool buffered = probe_mount(engine, *bench, DeviceCaching::buffered, out);
  out.direct = probe_mount(engine, *bench, DeviceCaching::direct, out);
  out.usable = buffered || out.direct;
  if (!out.usable) return out;
  probe_short_reads(server, *bench, out);
  out.findings.push_back(out.takeover
                             ? "a restarted daemon can take mounts over (FUSE_NOTIFY_RESEND)"
                             : "no takeover: a restart of the daemon ends reads in flight with EIO "
                               "(needs kernel 6.9)");
  return out;
}

}  // namespace pagein::mount
