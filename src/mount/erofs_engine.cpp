// The engine `erofs`: metadata on local disk, complete layers as local device
// files, incomplete ones as files of a FUSE connection.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <cerrno>
#include <map>

#include "mount/engine.h"
#include "mount/erofs_probe.h"
#include "mount/fs_context.h"

namespace pagein::mount {
namespace {

constexpr long kErofsMagic = 0xE0F5E1E2;

class ErofsMount : public ImageMount {
 public:
  ErofsMount(std::filesystem::path target, std::unique_ptr<FuseConnection> connection)
      : target_(std::move(target)), connection_(std::move(connection)) {}

  const std::filesystem::path& target() const override { return target_; }

  ImageMountState state() const override {
    if (!connection_) return {};
    return {true, connection_->state()};
  }
  int device_fd() const override { return connection_ ? connection_->device_fd() : -1; }
  FuseStats stats() const override { return connection_ ? connection_->stats() : FuseStats{}; }

  Status unmount(UnmountMode mode) override {
    RETURN_IF_ERROR(mount::unmount(target_, mode));
    serve_to_the_end();
    return {};
  }
  void serve_to_the_end() {
    if (connection_) connection_->serve_to_the_end();
  }

  Status wait_ended(std::chrono::milliseconds timeout) const override {
    if (!connection_) return {};
    return connection_->wait_ended(timeout);
  }
  Status abort() override {
    if (!connection_) return {};
    return connection_->abort();
  }

 private:
  const std::filesystem::path target_;
  const std::unique_ptr<FuseConnection> connection_;
};

// Opened once and handed over as /proc/self/fd/N, so that what was checked is
// what is mounted. A device that is too short would read as zeros past its end
// on some kernels.
Result<UniqueFd> open_local_device(const ImageDevice& device) {
  ASSIGN_OR_RETURN(UniqueFd fd, open_file(device.path, O_RDONLY));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return errno_error(errno, "stat " + device.path.string());
  if (!S_ISREG(st.st_mode)) {
    return Error(Code::invalid_argument, device.path.string() + " is not a regular file");
  }
  const auto size = static_cast<uint64_t>(st.st_size);
  if (size != device.size || size % 4096 != 0) {
    return Error(Code::corrupt_input, device.path.string() + " has " + std::to_string(size) +
                                          " bytes where the image needs " +
                                          std::to_string(device.size) +
                                          ", a multiple of 4096; it must not be mounted");
  }
  return fd;
}

std::string fd_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

FuseConnectionOptions connection_options(const ImageSpec& spec) {
  FuseConnectionOptions options;
  options.name = spec.id;
  for (const ImageDevice& device : spec.devices) {
    if (device.file) options.files.push_back(device.file);
  }
  options.caching = spec.caching == DeviceCaching::direct ? FuseCaching::none : FuseCaching::keep;
  options.on_end = spec.on_end;
  return options;
}

Status check_spec(const ImageSpec& spec) {
  const auto invalid = [&](const std::string& why) {
    return Error(Code::invalid_argument, "mount image '" + spec.id + "': " + why);
  };
  if (spec.id.empty() || spec.metadata.empty() || spec.target.empty()) {
    return invalid("id, metadata and target are needed");
  }
  if (spec.devices.size() > kMaxDevices) return invalid("too many devices");
  for (const ImageDevice& device : spec.devices) {
    if ((device.file != nullptr) == !device.path.empty()) {
      return invalid("a device is either virtual or local");
    }
    if (device.size % 4096 != 0) {
      return invalid("a device's size is not a multiple of 4096");
    }
  }
  return {};
}

// The kernel's ENOTBLK, or its refusal of a device, in a person's words.
Error explain(Error error, const ImageSpec& spec) {
  if (error.sys_errno == ENOTBLK) {
    error.code = Code::unsupported;
    error.message +=
        "; EROFS cannot be mounted from this file: the kernel lacks "
        "CONFIG_EROFS_FS_BACKED_BY_FILE (>= 6.12), or the metadata lies on tmpfs, "
        "overlayfs or a FUSE mount";
  }
  return error.with_context("mount image '" + spec.id + "' at " + spec.target.string());
}

// Returns the mount, in no tree yet.
Result<UniqueFd> create_erofs(const ImageSpec& spec, int fuse_mount) {
  ASSIGN_OR_RETURN(FsContext context, FsContext::open("erofs"));
  std::vector<UniqueFd> held;
  size_t virtual_place = 0;
  RETURN_IF_ERROR(context.set_path("source", spec.metadata));
  for (const ImageDevice& device : spec.devices) {
    std::string path;
    if (device.file) {
      path = fd_path(fuse_mount) + "/" + std::to_string(virtual_place++);
    } else {
      ASSIGN_OR_RETURN(UniqueFd fd, open_local_device(device));
      path = fd_path(fd.get());
      held.push_back(std::move(fd));
    }
    RETURN_IF_ERROR(context.set_string("device", path));
  }
  if (spec.caching == DeviceCaching::direct) RETURN_IF_ERROR(context.set_flag("directio"));
  RETURN_IF_ERROR(context.set_flag("ro"));
  // Neither nodev nor nosuid: where a snapshot is a bind mount of this one, the
  // image's device nodes and set-id programs must work as they do from any other
  // snapshotter's directories (an overlay looks at its own mount's flags only).
  // The folder above the target keeps local users out.
  return context.create(MOUNT_ATTR_RDONLY);
}

class ErofsEngine : public Engine {
 public:
  explicit ErofsEngine(FuseServer& server) : server_(server) {}
  std::string_view name() const override { return "erofs"; }

  Result<std::unique_ptr<ImageMount>> mount(ImageSpec spec) override {
    RETURN_IF_ERROR(check_spec(spec));
    FuseConnectionOptions options = connection_options(spec);
    std::unique_ptr<FuseConnection> connection;
    UniqueFd devices;
    if (!options.files.empty()) {
      ASSIGN_OR_RETURN(connection, FuseConnection::mount(server_, std::move(options)));
      devices = connection->take_mount();
    }
    Result<UniqueFd> erofs = create_erofs(spec, devices.get());
    if (!erofs.ok()) return explain(erofs.error(), spec);
    RETURN_IF_ERROR(attach_mount(erofs->get(), spec.target));
    return std::make_unique<ErofsMount>(std::move(spec.target), std::move(connection));
  }

  Result<std::unique_ptr<ImageMount>> adopt(ImageSpec spec, UniqueFd fuse_fd,
                                            const ImageMountState& state) override {
    RETURN_IF_ERROR(check_spec(spec));
    RETURN_IF_ERROR(check_mounted(spec.target));
    ASSIGN_OR_RETURN(auto mount, continue_mount(std::move(spec), std::move(fuse_fd), state));
    return mount;
  }

  Result<std::unique_ptr<ImageMount>> adopt_unmounted(ImageSpec spec, UniqueFd fuse_fd,
                                                      const ImageMountState& state) override {
    RETURN_IF_ERROR(check_spec(spec));
    ASSIGN_OR_RETURN(auto mount, continue_mount(std::move(spec), std::move(fuse_fd), state));
    mount->serve_to_the_end();
    return mount;
  }

  EngineProbe probe(const std::filesystem::path& scratch) override {
    return probe_erofs(*this, server_, scratch);
  }

 private:
  Result<std::unique_ptr<ErofsMount>> continue_mount(ImageSpec spec, UniqueFd fuse_fd,
                                                     const ImageMountState& state) {
    std::unique_ptr<FuseConnection> connection;
    if (state.needs_daemon) {
      if (!fuse_fd) {
        return Error(Code::failed_precondition,
                     "image '" + spec.id + "' at " + spec.target.string() +
                         " needs its FUSE descriptor, which nobody kept: unmount it lazily and "
                         "mount it again");
      }
      ASSIGN_OR_RETURN(connection, FuseConnection::adopt(server_, std::move(fuse_fd), state.fuse,
                                                         connection_options(spec)));
    }
    return std::make_unique<ErofsMount>(std::move(spec.target), std::move(connection));
  }

  static Status check_mounted(const std::filesystem::path& target) {
    ASSIGN_OR_RETURN(const bool mounted, is_mount_point(target));
    struct statfs st;
    if (mounted && ::statfs(target.c_str(), &st) == 0 && st.f_type == kErofsMagic) return {};
    return Error(Code::not_found, "no image is mounted at " + target.string());
  }

  FuseServer& server_;
};

}  // namespace

std::unique_ptr<Engine> make_erofs_engine(FuseServer& server) {
  return std::make_unique<ErofsEngine>(server);
}

}  // namespace pagein::mount
