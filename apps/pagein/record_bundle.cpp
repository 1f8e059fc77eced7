#include "apps/pagein/record_bundle.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>

#include "base/file.h"
#include "mount/mount_table.h"
#include "mount/overlay.h"

namespace pagein::cli {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxUserFile = 1 << 20;

// What Docker and containerd give a container (containerd oci/spec.go).
constexpr const char* kCapabilities[] = {
    "CAP_CHOWN",   "CAP_DAC_OVERRIDE", "CAP_FSETID",           "CAP_FOWNER",
    "CAP_MKNOD",   "CAP_NET_RAW",      "CAP_SETGID",           "CAP_SETUID",
    "CAP_SETFCAP", "CAP_SETPCAP",      "CAP_NET_BIND_SERVICE", "CAP_SYS_CHROOT",
    "CAP_KILL",    "CAP_AUDIT_WRITE"};

// A file of the image, whose links lead nowhere else.
std::string read_inside(const std::filesystem::path& root, const char* path) {
  const UniqueFd dir(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  open_how how{};
  how.flags = O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  how.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
  const UniqueFd file(static_cast<int>(::syscall(SYS_openat2, dir.get(), path, &how, sizeof how)));
  std::string text;
  char buffer[4096];
  ssize_t n;
  while (file.valid() && text.size() < kMaxUserFile &&
         (n = ::read(file.get(), buffer, sizeof buffer)) > 0) {
    text.append(buffer, static_cast<size_t>(n));
  }
  return text;
}

std::optional<uint32_t> number_of(const std::string& text) {
  uint32_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> parts;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) parts.push_back(part);
  return parts;
}

// The line of a file like passwd(5) whose field is `wanted`.
std::vector<std::string> entry_of(const std::string& file, size_t field,
                                  const std::string& wanted) {
  for (const std::string& line : split(file, '\n')) {
    auto fields = split(line, ':');
    if (fields.size() >= 3 && fields[field] == wanted) return fields;
  }
  return {};
}

struct User {
  uint32_t uid = 0;
  uint32_t gid = 0;
  std::vector<uint32_t> groups;
};

Result<User> find_user(const std::filesystem::path& root, const std::string& text) {
  User user;
  const auto parts = split(text, ':');
  if (parts.empty()) return user;
  const auto uid = number_of(parts[0]);
  const auto entry = entry_of(read_inside(root, "etc/passwd"), uid ? 2 : 0, parts[0]);
  if (!uid && entry.size() < 4) {
    return Error(Code::not_found, "the image's /etc/passwd has no user " + parts[0]);
  }
  user.uid = uid ? *uid : number_of(entry[2]).value_or(0);
  if (entry.size() >= 4) user.gid = number_of(entry[3]).value_or(0);
  const std::string groups = read_inside(root, "etc/group");
  if (parts.size() > 1) {
    const auto gid = number_of(parts[1]);
    const auto group = entry_of(groups, gid ? 2 : 0, parts[1]);
    if (!gid && group.empty()) {
      return Error(Code::not_found, "the image's /etc/group has no group " + parts[1]);
    }
    user.gid = gid ? *gid : number_of(group[2]).value_or(0);
  } else if (!entry.empty()) {
    for (const std::string& line : split(groups, '\n')) {
      const auto fields = split(line, ':');
      if (fields.size() < 4) continue;
      for (const std::string& member : split(fields[3], ',')) {
        if (member == entry[0]) user.groups.push_back(number_of(fields[2]).value_or(0));
      }
    }
  }
  return user;
}

json mount_of(const char* at, const char* type, const char* source,
              std::vector<std::string> options) {
  return {{"destination", at}, {"type", type}, {"source", source}, {"options", std::move(options)}};
}

Result<json> mounts_of(const RunOptions& options) {
  json mounts = json::array();
  mounts.push_back(mount_of("/proc", "proc", "proc", {"nosuid", "noexec", "nodev"}));
  mounts.push_back(
      mount_of("/dev", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  mounts.push_back(
      mount_of("/dev/pts", "devpts", "devpts",
               {"nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"}));
  mounts.push_back(mount_of("/dev/shm", "tmpfs", "shm",
                            {"nosuid", "noexec", "nodev", "mode=1777", "size=65536k"}));
  mounts.push_back(mount_of("/dev/mqueue", "mqueue", "mqueue", {"nosuid", "noexec", "nodev"}));
  mounts.push_back(mount_of("/sys", "sysfs", "sysfs", {"nosuid", "noexec", "nodev", "ro"}));
  mounts.push_back(
      mount_of("/run", "tmpfs", "tmpfs", {"nosuid", "strictatime", "mode=755", "size=65536k"}));
  if (options.net == RunOptions::Net::host) {
    for (const char* file : {"/etc/resolv.conf", "/etc/hosts"}) {
      std::error_code ignored;
      if (std::filesystem::exists(file, ignored))
        mounts.push_back(mount_of(file, "bind", file, {"bind", "ro"}));
    }
  }
  for (const std::string& volume : options.volumes) {
    const auto parts = split(volume, ':');
    if (parts.size() < 2 || parts.size() > 3 || !parts[0].starts_with('/') ||
        !parts[1].starts_with('/') || (parts.size() == 3 && parts[2] != "ro" && parts[2] != "rw")) {
      return Error(Code::invalid_argument,
                   "--volume " + volume + ": write /HOST/PATH:/CONTAINER/PATH[:ro]");
    }
    mounts.push_back(mount_of(parts[1].c_str(), "bind", parts[0].c_str(),
                              {"rbind", parts.size() == 3 ? parts[2] : "rw"}));
  }
  return mounts;
}

std::vector<std::string> environment(const ImageProcess& image, const RunOptions& options) {
  std::vector<std::string> env = {
      "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"};
  for (const auto* more : {&image.env, &options.env}) {
    for (const std::string& setting : *more) {
      const std::string name = setting.substr(0, setting.find('=') + 1);
      std::erase_if(env, [&](const std::string& old) { return old.starts_with(name); });
      env.push_back(setting);
    }
  }
  return env;
}

Result<json> configuration(const std::filesystem::path& root, const std::string& id,
                           const ImageProcess& image, const RunOptions& options) {
  std::vector<std::string> args = image.entrypoint;
  const auto& rest = options.command.empty() ? image.cmd : options.command;
  args.insert(args.end(), rest.begin(), rest.end());
  if (args.empty()) {
    return Error(Code::invalid_argument,
                 "the image names no command: give one after --, for instance -- /bin/app");
  }
  ASSIGN_OR_RETURN(const User user,
                   find_user(root, options.user.empty() ? image.user : options.user));
  ASSIGN_OR_RETURN(json mounts, mounts_of(options));
  const json capabilities = kCapabilities;
  json namespaces = json::array();
  for (const char* type : {"pid", "ipc", "uts", "mount"}) namespaces.push_back({{"type", type}});
  if (options.net == RunOptions::Net::none) namespaces.push_back({{"type", "network"}});
  return json{
      {"ociVersion", "1.0.2"},
      {"hostname", "pagein-record"},
      {"root", {{"path", "rootfs"}, {"readonly", options.root == RunOptions::Root::read_only}}},
      {"process",
       {{"terminal", false},
        {"user", {{"uid", user.uid}, {"gid", user.gid}, {"additionalGids", user.groups}}},
        {"args", args},
        {"env", environment(image, options)},
        {"cwd", image.working_dir.starts_with('/') ? image.working_dir : "/"},
        {"capabilities",
         {{"bounding", capabilities}, {"effective", capabilities}, {"permitted", capabilities}}}}},
      {"mounts", std::move(mounts)},
      {"linux",
       {{"namespaces", std::move(namespaces)},
        {"cgroupsPath", "/" + id},
        {"resources", {{"devices", json::array({{{"allow", false}, {"access", "rwm"}}})}}},
        {"maskedPaths",
         {"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
          "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware",
          "/proc/scsi"}},
        {"readonlyPaths",
         {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}}}}};
}

}  // namespace

RecordBundle::RecordBundle(RecordBundle&& other) noexcept
    : dir_(std::exchange(other.dir_, std::filesystem::path())) {}

RecordBundle::~RecordBundle() {
  if (dir_.empty()) return;
  static_cast<void>(mount::unmount(dir_ / "rootfs", mount::UnmountMode::lazy));
  static_cast<void>(mount::unmount(dir_ / "written", mount::UnmountMode::lazy));
  // Never into what is still mounted.
  for (const char* part : {"rootfs", "written"}) {
    const auto mounted = mount::is_mount_point(dir_ / part);
    if (!mounted.ok() || *mounted) return;
  }
  std::error_code ignored;
  std::filesystem::remove_all(dir_, ignored);
}

Result<RecordBundle> RecordBundle::make(const std::filesystem::path& tree,
                                        const ImageProcess& image, const RunOptions& options) {
  const char* parent = ::getenv("TMPDIR");
  std::string name = std::string(parent != nullptr && *parent == '/' ? parent : "/var/tmp") +
                     "/pagein-record-XXXXXX";
  if (::mkdtemp(name.data()) == nullptr) return errno_error(errno, "make the folder " + name);
  RecordBundle bundle{std::filesystem::path(name)};
  for (const char* part : {"rootfs", "written"}) {
    RETURN_IF_ERROR(make_dirs(bundle.dir_ / part, 0755));
  }
  RETURN_IF_ERROR(bundle.mount_root(tree));
  ASSIGN_OR_RETURN(const json config,
                   configuration(bundle.dir_ / "rootfs", bundle.id(), image, options));
  const std::string text = config.dump(2, ' ', false, json::error_handler_t::replace);
  RETURN_IF_ERROR(replace_file(bundle.dir_ / "config.json", as_bytes(text), 0600));
  return bundle;
}

// Also where the container may not write: runc makes what it mounts over.
Status RecordBundle::mount_root(const std::filesystem::path& tree) {
  mount::OverlaySpec spec;
  spec.lowers = {tree};
  const std::filesystem::path written = dir_ / "written";
  spec.upper = written / "upper";
  spec.work = written / "work";
  spec.features = mount::detect_overlay_features();
  const auto mount_it = [&]() -> Status {
    RETURN_IF_ERROR(make_dirs(spec.upper, 0755));
    RETURN_IF_ERROR(make_dirs(spec.work, 0700));
    return mount::mount_overlay(spec, dir_ / "rootfs");
  };
  if (mount_it().ok()) return {};
  // A folder on an overlay cannot hold what is written.
  if (::mount("pagein-record", written.c_str(), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755") != 0) {
    return errno_error(errno, "mount a tmpfs at " + written.string());
  }
  return mount_it();
}

}  // namespace pagein::cli
