// What the mount engines have in common. Internal to mount.
#pragma once

#include "mount/engine.h"
#include "mount/erofs_nodes.h"
#include "mount/fuse_connection.h"
#include "mount/metadata_file.h"

namespace pagein::mount {

// invalid_argument with the image's id where the spec cannot be right.
Status check_spec(const ImageSpec& spec);

// The device's file, once its size is what the image needs (else corrupt_input).
// Opened once and handed over as /proc/self/fd/N, so that what was checked is what
// is mounted. A device that is too short would read as zeros past its end on some
// kernels.
Result<UniqueFd> open_local_device(const ImageDevice& device);

// For engines that read the metadata themselves. The devices fit the metadata.
struct ImageSources {
  std::shared_ptr<const MetadataFile> metadata;
  std::vector<NodeDevice> devices;
};
Result<ImageSources> open_sources(const ImageSpec& spec);

std::string fd_path(int fd);

// A connection that serves the spec's virtual devices, in their order.
FuseConnectionOptions device_connection_options(const ImageSpec& spec);

// A new connection for them; null where there are none.
struct DeviceConnection {
  std::unique_ptr<FuseConnection> connection;
  UniqueFd mount;  // file N of the options is at "N" below it
};
Result<DeviceConnection> connect_devices(FuseServer& server, FuseConnectionOptions options);

// A mounted image; `connection` is null where it needs no daemon.
class ServedMount : public ImageMount {
 public:
  ServedMount(std::filesystem::path target, EngineKind kind,
              std::unique_ptr<FuseConnection> connection)
      : target_(std::move(target)), kind_(kind), connection_(std::move(connection)) {}

  const std::filesystem::path& target() const override { return target_; }
  ImageMountState state() const override;
  int device_fd() const override { return connection_ ? connection_->device_fd() : -1; }
  FuseStats stats() const override { return connection_ ? connection_->stats() : FuseStats{}; }
  Status unmount(UnmountMode mode) override;
  Status wait_ended(std::chrono::milliseconds timeout) const override;
  Status abort() override;

  void serve_to_the_end();

 private:
  const std::filesystem::path target_;
  const EngineKind kind_;
  const std::unique_ptr<FuseConnection> connection_;
};

// Continues a predecessor's connection (none where the state needs no daemon).
// failed_precondition where its descriptor is lost.
Result<std::unique_ptr<ServedMount>> continue_mount(FuseServer& server, const ImageSpec& spec,
                                                    UniqueFd fuse_fd, const ImageMountState& state,
                                                    FuseConnectionOptions options);

// not_found unless an EROFS is mounted at `target`.
Status check_erofs_mounted(const std::filesystem::path& target);

}  // namespace pagein::mount
