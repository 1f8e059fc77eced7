#include "mount/overlay.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>

#include "base/file.h"
#include "mount/fs_context.h"

namespace pagein::mount {
namespace {

// Whether the first map of this process's user namespace is the whole identity.
bool in_user_namespace() {
  Result<std::string> map = read_file("/proc/self/uid_map", 64 << 10);
  if (!map.ok()) return false;
  unsigned long long inside = 0, outside = 0, count = 0;
  if (std::sscanf(map->c_str(), "%llu %llu %llu", &inside, &outside, &count) != 3) return false;
  return inside != 0 || outside != 0 || count != 4294967295ULL;
}

Status check(const OverlaySpec& spec) {
  const auto invalid = [](const char* why) {
    return Error(Code::invalid_argument, std::string("snapshot mount: ") + why);
  };
  if (spec.upper.empty() && spec.lowers.empty()) return invalid("no directories");
  if (!spec.lowers.empty() && spec.upper.empty() != spec.work.empty()) {
    return invalid("upper and work belong together");
  }
  if (spec.lowers.size() > kMaxLowers) return invalid("more lowers than overlayfs takes (500)");
  return {};
}

Mount bind_mount(const std::filesystem::path& source, const char* access) {
  return {"bind", source.native(), {access, "rbind"}};
}

// A detached copy of the mount at `path`; read-only where asked.
Status mount_bind(const std::filesystem::path& path, const std::filesystem::path& target,
                  uint64_t attributes) {
  UniqueFd tree(static_cast<int>(::syscall(SYS_open_tree, AT_FDCWD, path.c_str(),
                                           OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE)));
  if (!tree) return errno_error(errno, "clone the mount of " + path.string());
  if (attributes != 0) {
    struct mount_attr attr {};
    attr.attr_set = attributes;
    if (::mount_setattr(tree.get(), "", AT_EMPTY_PATH, &attr, sizeof attr) != 0) {
      return errno_error(errno, "make the mount of " + path.string() + " read-only");
    }
  }
  return attach_mount(tree.get(), target);
}

// How the lowers are told: one option for each (>= 6.8, no escaping), or as one
// joined, escaped list.
enum class LowerStyle { each, joined };

Status set_lowers(FsContext& context, const OverlaySpec& spec, LowerStyle style) {
  if (style == LowerStyle::each) {
    for (const auto& lower : spec.lowers) {
      RETURN_IF_ERROR(context.set_path("lowerdir+", lower));
    }
    return {};
  }
  std::string joined;
  for (const auto& lower : spec.lowers) {
    if (!joined.empty()) joined += ':';
    joined += escape_overlay_path(lower);
  }
  return context.set_string("lowerdir", joined);
}

// A mount in no tree. A kernel that does not know an option says EINVAL, some
// (before 6.5) only when the file system is created.
Result<UniqueFd> create_overlay(const OverlaySpec& spec, LowerStyle style) {
  ASSIGN_OR_RETURN(FsContext context, FsContext::open("overlay"));
  RETURN_IF_ERROR(context.set_string("source", "overlay"));
  RETURN_IF_ERROR(set_lowers(context, spec, style));
  if (spec.features.index_off) RETURN_IF_ERROR(context.set_string("index", "off"));
  if (spec.features.userxattr) RETURN_IF_ERROR(context.set_flag("userxattr"));
  if (!spec.upper.empty()) {
    RETURN_IF_ERROR(context.set_path("upperdir", spec.upper));
    RETURN_IF_ERROR(context.set_path("workdir", spec.work));
  }
  return context.create(spec.upper.empty() ? MOUNT_ATTR_RDONLY : 0);
}

}  // namespace

OverlayFeatures detect_overlay_features() {
  OverlayFeatures features;
  features.index_off = ::access("/sys/module/overlay/parameters/index", F_OK) == 0;
  features.userxattr = in_user_namespace();
  return features;
}

std::string escape_overlay_path(const std::filesystem::path& path) {
  std::string out;
  for (const char c : path.native()) {
    if (c == '\\' || c == ':' || c == ',') out += '\\';
    out += c;
  }
  return out;
}

Result<std::vector<Mount>> snapshot_mounts(const OverlaySpec& spec) {
  RETURN_IF_ERROR(check(spec));
  if (spec.lowers.empty()) return std::vector{bind_mount(spec.upper, "rw")};
  if (spec.upper.empty() && spec.lowers.size() == 1) {
    return std::vector{bind_mount(spec.lowers.front(), "ro")};
  }
  std::vector<std::string> options;
  if (spec.features.index_off) options.push_back("index=off");
  if (spec.features.userxattr) options.push_back("userxattr");
  if (!spec.upper.empty()) {
    options.push_back("workdir=" + escape_overlay_path(spec.work));
    options.push_back("upperdir=" + escape_overlay_path(spec.upper));
  }
  std::string lowers = "lowerdir=";
  for (size_t i = 0; i < spec.lowers.size(); ++i) {
    if (i > 0) lowers += ':';
    lowers += escape_overlay_path(spec.lowers[i]);
  }
  options.push_back(std::move(lowers));
  return std::vector{Mount{"overlay", "overlay", std::move(options)}};
}

Status mount_overlay(const OverlaySpec& spec, const std::filesystem::path& target) {
  RETURN_IF_ERROR(check(spec));
  if (spec.lowers.empty()) return mount_bind(spec.upper, target, 0);
  if (spec.upper.empty() && spec.lowers.size() == 1) {
    return mount_bind(spec.lowers.front(), target, MOUNT_ATTR_RDONLY);
  }
  Result<UniqueFd> mount = create_overlay(spec, LowerStyle::each);
  if (!mount.ok() && mount.error().sys_errno == EINVAL) {
    mount = create_overlay(spec, LowerStyle::joined);
  }
  if (!mount.ok()) return mount.error();
  return attach_mount(mount->get(), target);
}

}  // namespace pagein::mount
