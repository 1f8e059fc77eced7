// Images mounted by hand: `pagein mount`.
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "mount/mount_table.h"
#include "mount/overlay.h"
#include "node/node.h"

namespace pagein::node {
namespace {

constexpr uint64_t kMaxManualFile = 1 << 20;
constexpr const char* kHolderPrefix = "manual-";

struct ManualRecord {
  std::string dir;
  std::string location;
  std::vector<std::string> layers;
};

std::string format_manual(const ManualRecord& record) {
  return nlohmann::json{{"version", 1},
                        {"dir", record.dir},
                        {"location", record.location},
                        {"layers", record.layers}}
             .dump(1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

Result<ManualRecord> parse_manual(std::string_view text) {
  const auto corrupt = Error(Code::corrupt_input, "record of a mounted image is damaged");
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("version", nlohmann::json()) != 1) return corrupt;
  const auto dir = json.find("dir");
  const auto location = json.find("location");
  const auto layers = json.find("layers");
  if (dir == json.end() || !dir->is_string() || location == json.end() ||
      !location->is_string() || layers == json.end() || !layers->is_array()) {
    return corrupt;
  }
  ManualRecord record{dir->get<std::string>(), location->get<std::string>(), {}};
  for (const auto& layer : *layers) {
    if (!layer.is_string()) return corrupt;
    record.layers.push_back(layer.get<std::string>());
  }
  return record;
}

std::string holder_of(const std::filesystem::path& dir) {
  return kHolderPrefix + oci::Digest::of(as_bytes(dir.native())).hex().substr(0, 16);
}

Status show_at(const std::filesystem::path& tree, const std::filesystem::path& dir) {
  mount::OverlaySpec spec;
  spec.lowers = {tree};
  return mount::mount_overlay(spec, dir);
}

}  // namespace

std::filesystem::path Node::manual_file(const std::filesystem::path& dir) const {
  return config_.root / "manual" / (holder_of(dir) + ".json");
}

Status Node::mount_image(const std::string& location_text, const std::filesystem::path& dir) {
  if (!probe_.usable) {
    return Error(Code::unsupported, "no mount engine works on this kernel (see pagein doctor)");
  }
  std::error_code error;
  if (!std::filesystem::is_directory(dir, error)) {
    return Error(Code::invalid_argument, dir.string() + " is not a directory");
  }
  ASSIGN_OR_RETURN(const bool taken, mount::is_mount_point(dir));
  if (taken) {
    return Error(Code::already_exists, "something is mounted at " + dir.string() +
                                           " already; unmount it first");
  }
  ASSIGN_OR_RETURN(registry::Location location, registry::parse_location(location_text));
  ASSIGN_OR_RETURN(const auto source, registry::open_source(location, session_));
  const auto entry = std::make_shared<Served>();
  ManualRecord record;
  {
    MutexLock lock(entry->mutex);
    // Where the blobs are, whatever the tag names later.
    std::string blobs = location_text;
    if (location.kind == registry::Location::Kind::registry) blobs = location.reference.name();
    RETURN_IF_ERROR(load_served(*entry, *source, location_text, blobs, oci::Digest()));
    for (size_t i = 0; i < entry->ids.size(); ++i) {
      if (!entry->ids[i].empty()) continue;
      return Error(Code::unsupported,
                   "layer " + entry->image->layers[i].descriptor.digest.str() +
                       " cannot be served lazily: " + entry->reasons[i] +
                       "; convert the image first (pagein convert " + location_text + ")");
    }
    record.layers = entry->ids;
  }
  if (record.layers.empty()) return Error(Code::unsupported, location_text + " has no layers");
  record.dir = dir;
  record.location = location_text;
  PinRequest pin;
  pin.layers = record.layers;
  pin.holder = holder_of(dir);
  pin.name = location_text;
  ASSIGN_OR_RETURN(const std::filesystem::path tree, mounts_->pin(pin));
  auto finish = [&]() -> Status {
    RETURN_IF_ERROR(make_dirs(config_.root / "manual", 0700));
    const std::string text = format_manual(record);
    RETURN_IF_ERROR(replace_file(manual_file(dir), as_bytes(text), 0600));
    return show_at(tree, dir);
  };
  Status status = finish();
  if (!status.ok()) {
    ::unlink(manual_file(dir).c_str());
    mounts_->release(pin.holder);
  }
  return status;
}

Status Node::unmount_image(const std::filesystem::path& dir) {
  const std::filesystem::path file = manual_file(dir);
  const auto text = read_file(file, kMaxManualFile);
  if (!text.ok()) {
    return Error(Code::not_found, "no image was mounted at " + dir.string() + " by pagein mount");
  }
  RETURN_IF_ERROR(mount::unmount(dir, mount::UnmountMode::normal));
  ::unlink(file.c_str());
  mounts_->release(holder_of(dir));
  // Layers that only this mount needed go; those of snapshots are held by
  // their rows, which the snapshotter tells us about at the next start.
  return {};
}

std::vector<Node::Manual> Node::manual_mounts() const {
  std::vector<Manual> all;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(config_.root / "manual", ignored)) {
    const auto text = read_file(entry.path(), kMaxManualFile);
    if (!text.ok()) continue;
    if (const auto record = parse_manual(*text); record.ok()) {
      all.push_back({record->dir, record->location});
    }
  }
  return all;
}

// After a reboot nothing is mounted; after a restart everything is.
void Node::restore_manual() {
  std::set<std::string> live;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::directory_iterator(config_.root / "manual", ignored)) {
    const auto text = read_file(entry.path(), kMaxManualFile);
    const auto record = text.ok() ? parse_manual(*text) : Result<ManualRecord>(text.error());
    if (!record.ok()) {
      log::warn("a record of a mounted image is damaged and removed",
                {{"file", entry.path().native()}});
      ::unlink(entry.path().c_str());
      continue;
    }
    PinRequest pin;
    pin.layers = record->layers;
    pin.holder = holder_of(record->dir);
    pin.name = record->location;
    live.insert(pin.holder);
    const auto mounted = mount::is_mount_point(record->dir);
    if (mounted.ok() && *mounted) {
      static_cast<void>(mounts_->pin(pin));
      continue;
    }
    auto restore = [&]() -> Status {
      ASSIGN_OR_RETURN(const std::filesystem::path tree, mounts_->pin(pin));
      return show_at(tree, record->dir);
    };
    if (Status status = restore(); !status.ok()) {
      log::warn("an image that was mounted by hand is not mounted any more",
                {{"dir", record->dir}, {"why", status.error().message}});
      live.erase(pin.holder);
      ::unlink(entry.path().c_str());
    }
  }
  mounts_->release_others(kHolderPrefix, live);
}

}  // namespace pagein::node
