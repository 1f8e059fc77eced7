// The engine `erofs`: metadata on local disk, complete layers as local device
// files, incomplete ones as files of a FUSE connection.
#include <sys/mount.h>

#include <cerrno>

#include "mount/engine.h"
#include "mount/fs_context.h"
#include "mount/image_parts.h"
#include "mount/image_probe.h"

namespace pagein::mount {
namespace {

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
    ASSIGN_OR_RETURN(DeviceConnection devices,
                     connect_devices(server_, device_connection_options(spec)));
    Result<UniqueFd> erofs = create_erofs(spec, devices.mount.get());
    if (!erofs.ok()) return explain(erofs.error(), spec);
    RETURN_IF_ERROR(attach_mount(erofs->get(), spec.target));
    return std::make_unique<ServedMount>(std::move(spec.target), EngineKind::erofs,
                                         std::move(devices.connection));
  }

  Result<std::unique_ptr<ImageMount>> adopt(ImageSpec spec, UniqueFd fuse_fd,
                                            const ImageMountState& state) override {
    RETURN_IF_ERROR(check_spec(spec));
    RETURN_IF_ERROR(check_erofs_mounted(spec.target));
    ASSIGN_OR_RETURN(auto mount, continue_mount(server_, spec, std::move(fuse_fd), state,
                                                device_connection_options(spec)));
    return mount;
  }

  Result<std::unique_ptr<ImageMount>> adopt_unmounted(ImageSpec spec, UniqueFd fuse_fd,
                                                      const ImageMountState& state) override {
    RETURN_IF_ERROR(check_spec(spec));
    ASSIGN_OR_RETURN(auto mount, continue_mount(server_, spec, std::move(fuse_fd), state,
                                                device_connection_options(spec)));
    mount->serve_to_the_end();
    return mount;
  }

  EngineProbe probe(const std::filesystem::path& scratch) override {
    constexpr DeviceCaching kModes[] = {DeviceCaching::buffered, DeviceCaching::direct};
    return probe_engine(*this, scratch, kModes);
  }

 private:
  FuseServer& server_;
};

}  // namespace

std::unique_ptr<Engine> make_erofs_engine(FuseServer& server) {
  return std::make_unique<ErofsEngine>(server);
}

}  // namespace pagein::mount
