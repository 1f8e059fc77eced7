// The engine `erofs-loop`: as `erofs`, but each file is a loop device, for kernels
// that mount EROFS from block devices only. Where they refuse external devices,
// everything is one loop device (flat_image.h).
#include <fcntl.h>
#include <sys/mount.h>

#include "mount/engine.h"
#include "mount/flat_image.h"
#include "mount/fs_context.h"
#include "mount/image_parts.h"
#include "mount/image_probe.h"
#include "mount/loop_device.h"

namespace pagein::mount {
namespace {

// Whether EROFS takes external devices (since 5.16); asked without mounting.
bool knows_devices() {
  Result<FsContext> context = FsContext::open("erofs");
  return context.ok() && context->set_string("device", "/dev/null").ok();
}

Result<LoopDevice> attach_virtual(const ImageSpec& spec, int fuse_mount, size_t place) {
  ASSIGN_OR_RETURN(const UniqueFd file,
                   open_file(fd_path(fuse_mount) + "/" + std::to_string(place), O_RDONLY));
  return LoopDevice::attach(file.get(), "pagein:" + spec.id, LoopCaching::never);
}

Result<LoopDevice> attach_local(const ImageSpec& spec, int file) {
  return LoopDevice::attach(file, "pagein:" + spec.id, LoopCaching::where_needed);
}

// Returns the mount, in no tree yet. The loop devices are EROFS's from then on.
Result<UniqueFd> create_erofs(const ImageSpec& spec, int fuse_mount) {
  ASSIGN_OR_RETURN(FsContext context, FsContext::open("erofs"));
  std::vector<LoopDevice> loops;
  ASSIGN_OR_RETURN(const UniqueFd metadata, open_file(spec.metadata, O_RDONLY));
  ASSIGN_OR_RETURN(LoopDevice source, attach_local(spec, metadata.get()));
  RETURN_IF_ERROR(context.set_string("source", source.path()));
  size_t virtual_place = 0;
  for (const ImageDevice& device : spec.devices) {
    if (device.file) {
      ASSIGN_OR_RETURN(LoopDevice loop, attach_virtual(spec, fuse_mount, virtual_place++));
      loops.push_back(std::move(loop));
    } else {
      ASSIGN_OR_RETURN(const UniqueFd file, open_local_device(device));
      ASSIGN_OR_RETURN(LoopDevice loop, attach_local(spec, file.get()));
      loops.push_back(std::move(loop));
    }
    RETURN_IF_ERROR(context.set_string("device", loops.back().path()));
  }
  RETURN_IF_ERROR(context.set_flag("ro"));
  return context.create(MOUNT_ATTR_RDONLY);  // device nodes and set-id: as erofs_engine.cpp
}

Result<UniqueFd> create_flat_erofs(const ImageSpec& spec, int fuse_mount) {
  ASSIGN_OR_RETURN(FsContext context, FsContext::open("erofs"));
  ASSIGN_OR_RETURN(LoopDevice source, attach_virtual(spec, fuse_mount, 0));
  RETURN_IF_ERROR(context.set_string("source", source.path()));
  RETURN_IF_ERROR(context.set_flag("ro"));
  return context.create(MOUNT_ATTR_RDONLY);
}

Result<FuseConnectionOptions> loop_connection_options(const ImageSpec& spec, EngineKind kind) {
  FuseConnectionOptions options = device_connection_options(spec);
  options.caching = FuseCaching::none;
  if (kind == EngineKind::erofs_flat) {
    ASSIGN_OR_RETURN(ImageSources image, open_sources(spec));
    ASSIGN_OR_RETURN(auto flat,
                     make_flat_image(std::move(image.metadata), std::move(image.devices)));
    options.files = {std::move(flat)};
  }
  return options;
}

class ErofsLoopEngine : public Engine {
 public:
  ErofsLoopEngine(FuseServer& server, LoopLayout layout)
      : server_(server),
        kind_(layout == LoopLayout::flat || !knows_devices() ? EngineKind::erofs_flat
                                                             : EngineKind::erofs_loop) {}
  std::string_view name() const override { return "erofs-loop"; }
  bool serves_always() const override { return kind_ == EngineKind::erofs_flat; }

  Result<std::unique_ptr<ImageMount>> mount(ImageSpec spec) override {
    RETURN_IF_ERROR(check_spec(spec));
    Result<std::unique_ptr<ImageMount>> mounted = mount_checked(spec);
    if (mounted.ok()) return mounted;
    return mounted.error().with_context("mount image '" + spec.id + "' at " + spec.target.string());
  }

  Result<std::unique_ptr<ImageMount>> adopt(ImageSpec spec, UniqueFd fuse_fd,
                                            const ImageMountState& state) override {
    RETURN_IF_ERROR(check_spec(spec));
    RETURN_IF_ERROR(check_erofs_mounted(spec.target));
    ASSIGN_OR_RETURN(auto mount, continue_loop(spec, std::move(fuse_fd), state));
    return mount;
  }

  Result<std::unique_ptr<ImageMount>> adopt_unmounted(ImageSpec spec, UniqueFd fuse_fd,
                                                      const ImageMountState& state) override {
    RETURN_IF_ERROR(check_spec(spec));
    ASSIGN_OR_RETURN(auto mount, continue_loop(spec, std::move(fuse_fd), state));
    mount->serve_to_the_end();
    return mount;
  }

  EngineProbe probe(const std::filesystem::path& scratch) override {
    constexpr DeviceCaching kModes[] = {DeviceCaching::direct};
    EngineProbe out = probe_engine(*this, scratch, kModes);
    if (out.usable) {
      out.findings.push_back(
          kind_ == EngineKind::erofs_flat
              ? "one loop device an image: this kernel's EROFS takes no external devices (5.16)"
              : "a loop device for each layer, with direct I/O");
    }
    return out;
  }

 private:
  Result<std::unique_ptr<ImageMount>> mount_checked(const ImageSpec& spec) {
    ASSIGN_OR_RETURN(FuseConnectionOptions options, loop_connection_options(spec, kind_));
    ASSIGN_OR_RETURN(DeviceConnection devices, connect_devices(server_, std::move(options)));
    ASSIGN_OR_RETURN(const UniqueFd erofs, kind_ == EngineKind::erofs_flat
                                               ? create_flat_erofs(spec, devices.mount.get())
                                               : create_erofs(spec, devices.mount.get()));
    RETURN_IF_ERROR(attach_mount(erofs.get(), spec.target));
    return std::make_unique<ServedMount>(spec.target, kind_, std::move(devices.connection));
  }

  Result<std::unique_ptr<ServedMount>> continue_loop(const ImageSpec& spec, UniqueFd fuse_fd,
                                                     const ImageMountState& state) {
    ASSIGN_OR_RETURN(FuseConnectionOptions options, loop_connection_options(spec, state.engine));
    return continue_mount(server_, spec, std::move(fuse_fd), state, std::move(options));
  }

  FuseServer& server_;
  const EngineKind kind_;
};

}  // namespace

std::unique_ptr<Engine> make_erofs_loop_engine(FuseServer& server, LoopLayout layout) {
  return std::make_unique<ErofsLoopEngine>(server, layout);
}

}  // namespace pagein::mount
