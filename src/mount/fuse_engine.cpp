// The engine `fuse`: the image as a FUSE file system of our own, from the same
// metadata file and devices as the EROFS engines mount.
//
// Complete files are not handed to the kernel by FUSE passthrough: that maps a
// whole file to a whole file, but a layer's files lie one after the other in its
// data file.
#include <fcntl.h>
#include <linux/stat.h>
#include <sys/stat.h>

#include <cerrno>

#include "mount/engine.h"
#include "mount/erofs_nodes.h"
#include "mount/fs_context.h"
#include "mount/image_parts.h"
#include "mount/image_probe.h"

namespace pagein::mount {
namespace {

Result<FuseConnectionOptions> tree_connection_options(const ImageSpec& spec) {
  ASSIGN_OR_RETURN(ImageSources image, open_sources(spec));
  FuseConnectionOptions options;
  options.name = spec.id;
  options.nodes = make_erofs_nodes(std::move(image.metadata), std::move(image.devices));
  options.users = FuseConnectionOptions::Users::everyone;
  options.on_end = spec.on_end;
  options.fault = spec.fault;
  return options;
}

// Asks the kernel only: the file system's server may be dead.
Status check_connection_mounted(const std::filesystem::path& target, uint32_t connection) {
  ASSIGN_OR_RETURN(const bool mounted, is_mount_point(target));
  struct statx st;
  if (mounted && ::statx(AT_FDCWD, target.c_str(), AT_STATX_DONT_SYNC, 0, &st) == 0 &&
      st.stx_dev_major == 0 && st.stx_dev_minor == connection) {
    return {};
  }
  return Error(Code::not_found, "no image is mounted at " + target.string());
}

class FuseEngine : public Engine {
 public:
  explicit FuseEngine(FuseServer& server) : server_(server) {}
  std::string_view name() const override { return "fuse"; }
  bool serves_always() const override { return true; }

  Result<std::unique_ptr<ImageMount>> mount(ImageSpec spec) override {
    RETURN_IF_ERROR(check_spec(spec));
    Result<std::unique_ptr<ImageMount>> mounted = mount_checked(spec);
    if (mounted.ok()) return mounted;
    return mounted.error().with_context("mount image '" + spec.id + "' at " + spec.target.string());
  }

  Result<std::unique_ptr<ImageMount>> adopt(ImageSpec spec, UniqueFd fuse_fd,
                                            const ImageMountState& state) override {
    RETURN_IF_ERROR(check_spec(spec));
    RETURN_IF_ERROR(check_connection_mounted(spec.target, state.fuse.connection));
    ASSIGN_OR_RETURN(auto mount, continue_tree(spec, std::move(fuse_fd), state));
    return mount;
  }

  Result<std::unique_ptr<ImageMount>> adopt_unmounted(ImageSpec spec, UniqueFd fuse_fd,
                                                      const ImageMountState& state) override {
    RETURN_IF_ERROR(check_spec(spec));
    ASSIGN_OR_RETURN(auto mount, continue_tree(spec, std::move(fuse_fd), state));
    mount->serve_to_the_end();
    return mount;
  }

  EngineProbe probe(const std::filesystem::path& scratch) override {
    constexpr DeviceCaching kModes[] = {DeviceCaching::direct};  // no cache of devices
    return probe_engine(*this, scratch, kModes);
  }

 private:
  Result<std::unique_ptr<ImageMount>> mount_checked(const ImageSpec& spec) {
    ASSIGN_OR_RETURN(FuseConnectionOptions options, tree_connection_options(spec));
    ASSIGN_OR_RETURN(auto connection, FuseConnection::mount(server_, std::move(options)));
    RETURN_IF_ERROR(attach_mount(connection->take_mount().get(), spec.target));
    return std::make_unique<ServedMount>(spec.target, EngineKind::fuse, std::move(connection));
  }

  Result<std::unique_ptr<ServedMount>> continue_tree(const ImageSpec& spec, UniqueFd fuse_fd,
                                                     const ImageMountState& state) {
    ASSIGN_OR_RETURN(FuseConnectionOptions options, tree_connection_options(spec));
    return continue_mount(server_, spec, std::move(fuse_fd), state, std::move(options));
  }

  FuseServer& server_;
};

}  // namespace

std::unique_ptr<Engine> make_fuse_engine(FuseServer& server) {
  return std::make_unique<FuseEngine>(server);
}

}  // namespace pagein::mount
