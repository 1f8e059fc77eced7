#include "mount/loop_device.h"

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <cerrno>

#include "base/file.h"

namespace pagein::mount {
namespace {

// Others look for free devices at the same time.
constexpr int kMaxTries = 256;

Error no_loop(Error error) {
  if (error.sys_errno == ENOENT || error.sys_errno == ENODEV || error.sys_errno == ENXIO ||
      error.sys_errno == EPERM || error.sys_errno == EACCES) {
    error.code = Code::unsupported;
  }
  return error;
}

}  // namespace

Result<LoopDevice> LoopDevice::attach(int file, const std::string& name, LoopCaching caching) {
  Result<UniqueFd> control = open_file("/dev/loop-control", O_RDWR);
  if (!control.ok()) return no_loop(control.error());
  loop_config config{};
  config.fd = static_cast<uint32_t>(file);
  config.info.lo_flags = LO_FLAGS_READ_ONLY | LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO;
  name.copy(reinterpret_cast<char*>(config.info.lo_file_name), LO_NAME_SIZE - 1);
  for (int i = 0; i < kMaxTries; ++i) {
    const int number = ::ioctl(control->get(), LOOP_CTL_GET_FREE);
    if (number < 0) return no_loop(errno_error(errno, "find a free loop device"));
    const std::string path = "/dev/loop" + std::to_string(number);
    Result<UniqueFd> device = open_file(path, O_RDONLY);
    if (!device.ok()) return no_loop(device.error());
    if (::ioctl(device->get(), LOOP_CONFIGURE, &config) != 0) {
      if (errno == EBUSY) continue;
      if (errno == EINVAL || errno == ENOTTY) {
        return Error(Code::unsupported, "configure " + path + ": no LOOP_CONFIGURE (kernel 5.8)",
                     errno);
      }
      return errno_error(errno, "configure " + path);
    }
    // The kernel drops the flag where the file cannot do it.
    loop_info64 info{};
    if (::ioctl(device->get(), LOOP_GET_STATUS64, &info) != 0) {
      return errno_error(errno, "read the state of " + path);
    }
    if (caching == LoopCaching::never && !(info.lo_flags & LO_FLAGS_DIRECT_IO)) {
      return Error(Code::unsupported, path + " takes no direct I/O");
    }
    return LoopDevice(path, *std::move(device));
  }
  return Error(Code::unavailable, "every free loop device was taken by others meanwhile");
}

}  // namespace pagein::mount
