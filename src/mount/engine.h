// How a merged image becomes a directory: the interface of all mount engines.
#pragma once

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "mount/device_file.h"
#include "mount/fuse_connection.h"
#include "mount/mount_table.h"

namespace pagein::mount {

// One external device of the image; exactly one of `file` and `path` is set.
struct ImageDevice {
  std::shared_ptr<DeviceFile> file;  // incomplete layer: read through us
  std::filesystem::path path;        // complete layer: its local data
  uint64_t size = 0;                 // of `path`, in bytes: checked before mounting

  static ImageDevice virtual_file(std::shared_ptr<DeviceFile> f) {
    const uint64_t bytes = f->size();
    return {std::move(f), {}, bytes};
  }
  static ImageDevice local(std::filesystem::path p, uint64_t bytes) {
    return {nullptr, std::move(p), bytes};
  }
};

// Where file contents are cached beside the page cache of the image itself.
enum class DeviceCaching {
  direct,    // nowhere (EROFS `directio`): least memory
  buffered,  // in the devices too: reads further ahead
};

struct ImageSpec {
  std::string id;                    // for messages and the mount's source
  std::filesystem::path metadata;    // EROFS metadata, on a local disk file system
  std::vector<ImageDevice> devices;  // in the order of the device table
  std::filesystem::path target;      // an existing directory
  DeviceCaching caching = DeviceCaching::direct;
  // When the kernel has let go of the image's virtual devices for good (after
  // unmount, with the last user): on a serving thread; must not block.
  std::function<void()> on_end;
  FuseConnectionOptions::Fault fault = FuseConnectionOptions::Fault::none;  // for probes only
};

// EROFS's and our cap on external devices of one image.
inline constexpr size_t kMaxDevices = 4096;

// How an image is mounted, as recorded with the mount.
enum class EngineKind : uint8_t {
  erofs,       // EROFS on files
  erofs_loop,  // EROFS on loop devices
  erofs_flat,  // EROFS on one loop device with everything
  fuse,        // a FUSE file system
};
// "erofs", "erofs-loop", "erofs-loop-flat", "fuse".
std::string_view engine_kind_name(EngineKind kind);
std::optional<EngineKind> parse_engine_kind(std::string_view name);

// What a successor needs to adopt the mount, beside the same ImageSpec.
struct ImageMountState {
  bool needs_daemon = false;  // somebody must serve it
  EngineKind engine = EngineKind::erofs;
  FuseSessionState fuse;
};

// A mounted image. Thread-safe. Destroying it
//  - before unmount: leaves the mount in place (a daemon that stops must not break
//    containers) but no longer serves it: for a successor to adopt;
//  - after unmount: whoever still uses the image is served to the end, and the
//    devices are kept until then (ImageSpec::on_end).
class ImageMount {
 public:
  virtual ~ImageMount() = default;

  virtual const std::filesystem::path& target() const = 0;
  virtual ImageMountState state() const = 0;
  // For the descriptor store; -1 where the mount needs no daemon.
  virtual int device_fd() const = 0;
  // Zeros where the mount needs no daemon.
  virtual FuseStats stats() const = 0;

  // May block; not on a serving thread. Idempotent.
  virtual Status unmount(UnmountMode mode) = 0;
  // Until the last user is gone after unmount; at once where there is no daemon.
  virtual Status wait_ended(std::chrono::milliseconds timeout) const = 0;
  // The last resort against a mount that hangs: its reads fail from now on.
  virtual Status abort() = 0;
};

// What an engine can do on this machine, found by trying, not by version.
struct EngineProbe {
  std::string engine;
  bool usable = false;
  bool takeover = false;    // a restarted daemon can continue
  bool direct = false;      // DeviceCaching::direct takes effect
  uint64_t fuse_flags = 0;  // INIT flags that the kernel offered
  // A person's account, one fact a line, also where usable.
  std::vector<std::string> findings;
};

// Thread-safe.
class Engine {
 public:
  virtual ~Engine() = default;
  virtual std::string_view name() const = 0;
  // Whether its mounts need the daemon even where every device is local.
  virtual bool serves_always() const { return false; }

  // Mounts at spec.target. May block; not on a serving thread.
  // unsupported: this machine cannot; invalid_argument: spec; corrupt_input: a
  // local device whose size is not what the image was made for.
  virtual Result<std::unique_ptr<ImageMount>> mount(ImageSpec spec) = 0;

  // Continues a mount that a predecessor left. `fuse_fd` is what it stored;
  // invalid where the mount needs no daemon. not_found: nothing is mounted at
  // spec.target (any more).
  virtual Result<std::unique_ptr<ImageMount>> adopt(ImageSpec spec, UniqueFd fuse_fd,
                                                    const ImageMountState& state) = 0;

  // Continues one that the predecessor had unmounted but somebody still uses:
  // spec.target is not looked at, and the result is as after unmount(). Where the
  // last user has gone meanwhile, it is ended soon.
  virtual Result<std::unique_ptr<ImageMount>> adopt_unmounted(ImageSpec spec, UniqueFd fuse_fd,
                                                              const ImageMountState& state) = 0;

  // Tries everything on a tiny image in `scratch`, a directory of its own on the
  // disk where metadata files will be. It is kept there, so that a full disk
  // does not look like a kernel that cannot.
  virtual EngineProbe probe(const std::filesystem::path& scratch) = 0;

  // What the last probe() found of every engine that it tried, best first.
  virtual std::vector<EngineProbe> reports() const { return {}; }
};

// EROFS on files, its virtual devices over FUSE (kernel >= 6.12). `server` must
// outlive it.
std::unique_ptr<Engine> make_erofs_engine(FuseServer& server);
// The same on loop devices with direct I/O (kernel >= 5.8 and EROFS). `flat`
// serves each image as one device also where the kernel takes several.
enum class LoopLayout { best, flat };
std::unique_ptr<Engine> make_erofs_loop_engine(FuseServer& server,
                                               LoopLayout layout = LoopLayout::best);
// A FUSE file system of our own that shows what the EROFS metadata says, for
// kernels and user namespaces without EROFS.
std::unique_ptr<Engine> make_fuse_engine(FuseServer& server);

}  // namespace pagein::mount
