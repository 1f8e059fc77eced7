#include "mount/kernel_facts.h"

#include <sys/statfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "mount/fs_context.h"
#include "mount/fuse_protocol.h"

namespace pagein::mount {
namespace {

// linux/magic.h, and XFS's and ZFS's own.
struct Magic {
  unsigned long value;
  const char* name;
};
constexpr Magic kMagics[] = {
    {0xEF53, "ext4"},         {0x58465342, "xfs"},       {0x9123683E, "btrfs"},
    {0x01021994, "tmpfs"},    {0x794c7630, "overlayfs"}, {0x6969, "nfs"},
    {0x65735546, "fuse"},     {0x2FC12FC1, "zfs"},       {0xF2F52010, "f2fs"},
    {0x73717368, "squashfs"}, {0xE0F5E1E2, "erofs"}};

bool has_file_system(const char* type) { return FsContext::open(type).ok(); }

}  // namespace

KernelFacts load_kernel_facts(uint64_t fuse_flags) {
  KernelFacts out;
  struct utsname name;
  if (::uname(&name) == 0) out.release = name.release;
  out.facts.push_back({"erofs", has_file_system("erofs"), "only the engine fuse can work"});
  out.facts.push_back({"loop devices", ::access("/dev/loop-control", R_OK | W_OK) == 0,
                       "the engine erofs-loop cannot work"});
  out.facts.push_back({"fuse", ::access("/dev/fuse", R_OK | W_OK) == 0, "no engine can work"});
  out.facts.push_back({"overlay", has_file_system("overlay"), "containers cannot be started"});
  if (fuse_flags == 0) return out;
  out.facts.push_back({"FUSE resend (6.9)", (fuse_flags & kFuseHasResend) != 0,
                       "a restart of pageind ends reads in flight with EIO"});
  out.facts.push_back({"FUSE passthrough (6.9)", (fuse_flags & kFusePassthrough) != 0, ""});
  return out;
}

Result<std::string> file_system_type(const std::string& path) {
  struct statfs st;
  if (::statfs(path.c_str(), &st) != 0) return errno_error(errno, "look at " + path);
  for (const Magic& magic : kMagics) {
    if (magic.value == static_cast<unsigned long>(st.f_type)) return std::string(magic.name);
  }
  char text[32];
  std::snprintf(text, sizeof text, "0x%lx", static_cast<unsigned long>(st.f_type));
  return std::string(text);
}

}  // namespace pagein::mount
