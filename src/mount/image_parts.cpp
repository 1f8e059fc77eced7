#include "mount/image_parts.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <cerrno>

namespace pagein::mount {
namespace {

constexpr long kErofsMagic = 0xE0F5E1E2;

}  // namespace

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

Result<ImageSources> open_sources(const ImageSpec& spec) {
  ImageSources out;
  ASSIGN_OR_RETURN(out.metadata, MetadataFile::open(spec.metadata, spec.devices.size()));
  for (size_t i = 0; i < spec.devices.size(); ++i) {
    const ImageDevice& device = spec.devices[i];
    const uint64_t bytes = device.file ? device.file->size() : device.size;
    if (bytes < out.metadata->reader().devices()[i].blocks * erofs::kBlock) {
      return Error(Code::invalid_argument, "device " + std::to_string(i) + " is too short");
    }
    if (device.file) {
      out.devices.push_back({device.file, nullptr});
    } else {
      ASSIGN_OR_RETURN(UniqueFd fd, open_local_device(device));
      out.devices.push_back({nullptr, std::make_shared<UniqueFd>(std::move(fd))});
    }
  }
  return out;
}

std::string fd_path(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

FuseConnectionOptions device_connection_options(const ImageSpec& spec) {
  FuseConnectionOptions options;
  options.name = spec.id;
  for (const ImageDevice& device : spec.devices) {
    if (device.file) options.files.push_back(device.file);
  }
  options.caching = spec.caching == DeviceCaching::direct ? FuseCaching::none : FuseCaching::keep;
  options.on_end = spec.on_end;
  options.fault = spec.fault;
  return options;
}

Result<DeviceConnection> connect_devices(FuseServer& server, FuseConnectionOptions options) {
  DeviceConnection out;
  if (options.files.empty()) return out;
  ASSIGN_OR_RETURN(out.connection, FuseConnection::mount(server, std::move(options)));
  out.mount = out.connection->take_mount();
  return out;
}

ImageMountState ServedMount::state() const {
  ImageMountState state;
  state.engine = kind_;
  if (connection_) {
    state.needs_daemon = true;
    state.fuse = connection_->state();
  }
  return state;
}

Status ServedMount::unmount(UnmountMode mode) {
  RETURN_IF_ERROR(mount::unmount(target_, mode));
  serve_to_the_end();
  return {};
}

void ServedMount::serve_to_the_end() {
  if (connection_) connection_->serve_to_the_end();
}

Status ServedMount::wait_ended(std::chrono::milliseconds timeout) const {
  if (!connection_) return {};
  return connection_->wait_ended(timeout);
}

Status ServedMount::abort() {
  if (!connection_) return {};
  return connection_->abort();
}

Result<std::unique_ptr<ServedMount>> continue_mount(FuseServer& server, const ImageSpec& spec,
                                                    UniqueFd fuse_fd, const ImageMountState& state,
                                                    FuseConnectionOptions options) {
  std::unique_ptr<FuseConnection> connection;
  if (state.needs_daemon) {
    if (!fuse_fd) {
      return Error(Code::failed_precondition,
                   "image '" + spec.id + "' at " + spec.target.string() +
                       " needs its FUSE descriptor, which nobody kept: unmount it lazily and "
                       "mount it again");
    }
    ASSIGN_OR_RETURN(connection, FuseConnection::adopt(server, std::move(fuse_fd), state.fuse,
                                                       std::move(options)));
  }
  return std::make_unique<ServedMount>(spec.target, state.engine, std::move(connection));
}

Status check_erofs_mounted(const std::filesystem::path& target) {
  ASSIGN_OR_RETURN(const bool mounted, is_mount_point(target));
  struct statfs st;
  if (mounted && ::statfs(target.c_str(), &st) == 0 && st.f_type == kErofsMagic) return {};
  return Error(Code::not_found, "no image is mounted at " + target.string());
}

}  // namespace pagein::mount
