#include "snapshotter/mounts.h"

#include <sys/vfs.h>

#include <cstdio>

#include "base/file.h"

namespace pagein::snapshotter {

namespace {

constexpr decltype(statfs::f_type) kTmpfsMagic = 0x01021994;  // linux/magic.h

// The initial namespace maps everything: "0 0 4294967295" (user_namespaces(7)).
bool in_user_namespace() {
  const auto map = read_file("/proc/self/uid_map", 64 * 1024);
  if (!map.ok()) return false;
  unsigned long long inside = 0, outside = 0, count = 0;
  if (std::sscanf(map->c_str(), "%llu %llu %llu", &inside, &outside, &count) != 3) return false;
  return inside != 0 || outside != 0 || count != 4294967295ULL;
}

// tmpfs has no user xattrs before 6.6; containerd leaves the option out there.
bool on_tmpfs(const std::filesystem::path& path) {
  struct statfs fs;
  return ::statfs(path.c_str(), &fs) == 0 && fs.f_type == kTmpfsMagic;
}

Mount bind_mount(const std::string& source, const char* access) {
  return Mount{"bind", source, {access, "rbind"}};
}

}  // namespace

OverlayFeatures probe_overlay(const std::filesystem::path& root) {
  OverlayFeatures features;
  std::error_code ignored;
  features.index_off = std::filesystem::exists("/sys/module/overlay/parameters/index", ignored);
  // Every kernel that we run on inside a user namespace knows it (5.11).
  features.userxattr = in_user_namespace() && !on_tmpfs(root);
  return features;
}

std::vector<Mount> make_mounts(const MountPlan& plan, const OverlayFeatures& features) {
  const bool active = plan.kind == Kind::active;
  if (plan.lowers.empty()) return {bind_mount(plan.upper.string(), active ? "rw" : "ro")};
  if (!active && plan.lowers.size() == 1) return {bind_mount(plan.lowers.front(), "ro")};

  Mount overlay{"overlay", "overlay", {}};
  if (features.index_off) overlay.options.push_back("index=off");
  if (features.userxattr) overlay.options.push_back("userxattr");
  if (active) {
    overlay.options.push_back("workdir=" + plan.work.string());
    overlay.options.push_back("upperdir=" + plan.upper.string());
  }
  std::string lowerdir = "lowerdir=";
  for (const std::string& lower : plan.lowers) {
    if (lowerdir.back() != '=') lowerdir += ':';
    lowerdir += lower;
  }
  overlay.options.push_back(std::move(lowerdir));
  return {std::move(overlay)};
}

}  // namespace pagein::snapshotter
