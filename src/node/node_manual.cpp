// Images mounted by hand: `pagein mount`.
#include <unistd.h>

#include "base/guard.h"
#include "base/log.h"
#include "mount/mount_table.h"
#include "mount/overlay.h"
#include "node/node.h"

namespace pagein::node {
namespace {

constexpr const char* kHolderPrefix = "manual-";

// Between attempts to mount again what could not be mounted at the start.
constexpr std::chrono::seconds kFirstRetry{1};
constexpr std::chrono::seconds kLongestRetry{60};

std::string holder_of(const std::filesystem::path& dir) {
  return kHolderPrefix + oci::Digest::of(as_bytes(dir.native())).hex().substr(0, 16);
}

PinRequest pin_request(const ManualRecord& record) {
  PinRequest pin;
  pin.layers = record.layers;
  pin.holder = holder_of(record.dir);
  pin.name = record.location;
  return pin;
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

// The image with all its layers, which live as long as the result.
Result<std::shared_ptr<Node::Served>> Node::load_manual(const std::string& location_text) {
  ASSIGN_OR_RETURN(registry::Location location, registry::parse_location(location_text));
  ASSIGN_OR_RETURN(const auto source, parts_.open_source(location, session_));
  auto entry = std::make_shared<Served>();
  MutexLock lock(entry->mutex);
  // Where the blobs are, whatever the tag names later.
  std::string blobs = location_text;
  if (location.kind == registry::Location::Kind::registry) blobs = location.reference.name();
  RETURN_IF_ERROR(load_served(*entry, *source, location_text, blobs, oci::Digest()));
  for (size_t i = 0; i < entry->ids.size(); ++i) {
    if (!entry->ids[i].empty()) continue;
    return Error(Code::unsupported, "layer " + entry->image->layers[i].descriptor.digest.str() +
                                        " cannot be served lazily: " + entry->reasons[i] +
                                        "; convert the image first (pagein convert " +
                                        location_text + ")");
  }
  return entry;
}

Status Node::mount_image(const std::string& location_text, const std::filesystem::path& dir) {
  if (!probe_.usable) {
    return Error(Code::unsupported,
                 "the mount engine '" + probe_.engine + "' does not work here (see pagein doctor)");
  }
  std::error_code error;
  if (!std::filesystem::is_directory(dir, error)) {
    return Error(Code::invalid_argument, dir.string() + " is not a directory");
  }
  ASSIGN_OR_RETURN(const auto loaded, load_manual(location_text));
  ManualRecord record{dir, location_text, {}};
  {
    MutexLock lock(loaded->mutex);
    record.layers = loaded->ids;
  }
  if (record.layers.empty()) return Error(Code::unsupported, location_text + " has no layers");

  MutexLock lock(manual_mutex_);
  ASSIGN_OR_RETURN(const bool taken, mount::is_mount_point(dir));
  if (taken || is_absent(dir)) {
    return Error(Code::already_exists,
                 (taken ? "something is mounted at " + dir.string() + " already"
                        : "an image that was mounted at " + dir.string() + " is to come back") +
                     "; unmount it first");
  }
  const PinRequest pin = pin_request(record);
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
    release_manual(record);
  }
  return status;
}

Status Node::unmount_image(const std::filesystem::path& dir) {
  MutexLock lock(manual_mutex_);
  const std::filesystem::path file = manual_file(dir);
  const auto text = read_file(file, kMaxManualFile);
  if (!text.ok()) {
    return Error(Code::not_found, "no image was mounted at " + dir.string() + " by pagein mount");
  }
  // What is there instead of an image that has not come back is not ours.
  if (!is_absent(dir)) RETURN_IF_ERROR(mount::unmount(dir, mount::UnmountMode::normal));
  ::unlink(file.c_str());
  const auto record = parse_manual(*text);
  if (record.ok()) release_manual(*record);
  else mounts_->release(holder_of(dir));
  {
    MutexLock absent_lock(mutex_);
    absent_.erase(dir);
  }
  // Layers that only this mount needed go at the next start, when the
  // snapshotter says which ones its snapshots hold.
  return {};
}

// Its startup pack is of no more use where nobody else has the image mounted.
void Node::release_manual(const ManualRecord& record) {
  mounts_->release(holder_of(record.dir));
  for (const auto& chain : mounts_->list()) {
    if (chain.record.layers == record.layers && !chain.record.mounts.empty()) return;
  }
  startup_packs_->cancel_image(record.layers);
}

std::vector<std::pair<std::filesystem::path, Result<ManualRecord>>> Node::load_manual_records()
    const {
  std::vector<std::pair<std::filesystem::path, Result<ManualRecord>>> records;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(config_.root / "manual", ignored)) {
    if (entry.path().extension() != ".json") continue;  // half-written
    const auto text = read_file(entry.path(), kMaxManualFile);
    Result<ManualRecord> record =
        text.ok() ? parse_manual(*text) : Result<ManualRecord>(text.error());
    if (record.ok() && manual_file(record->dir) != entry.path()) {
      record = Error(Code::corrupt_input, "it is the record of another folder");
    }
    records.emplace_back(entry.path(), std::move(record));
  }
  return records;
}

std::vector<Node::Manual> Node::manual_mounts() const {
  std::vector<Manual> all;
  for (const auto& [file, record] : load_manual_records()) {
    if (record.ok()) all.push_back({record->dir, record->location});
  }
  return all;
}

// After a reboot nothing is mounted; after a restart everything is. What cannot
// be mounted now is tried again later: only what can never come back is
// forgotten.
void Node::restore_manual() {
  MutexLock lock(manual_mutex_);
  std::set<std::string> live;
  for (const auto& [file, record] : load_manual_records()) {
    if (!record.ok()) {
      if (record.error().code != Code::corrupt_input) continue;
      log::warn("a record of a mounted image is damaged and removed", {{"file", file.native()}});
      ::unlink(file.c_str());
      continue;
    }
    live.insert(holder_of(record->dir));
    if (Status status = show_again(*record); !status.ok()) {
      note_absent(*record, status.error());
    }
  }
  mounts_->release_others(kHolderPrefix, live);
  if (absent().empty()) return;
  restorer_ = std::thread([this] { guard("manual-mounts", [this] { restore_loop(); }); });
}

// From what the store has.
Status Node::show_again(const ManualRecord& record) {
  const PinRequest pin = pin_request(record);
  const Result<bool> there = mount::is_mount_point(record.dir);
  ASSIGN_OR_RETURN(const std::filesystem::path tree, mounts_->pin(pin));
  if (there.ok() && *there) return {};
  Status shown = show_at(tree, record.dir);
  if (!shown.ok()) mounts_->release(pin.holder);
  return shown;
}

void Node::note_absent(const ManualRecord& record, const Error& why) {
  for (const std::string& id : record.layers) {
    const auto pager = layers_->find(id);
    if (!pager.ok() || !(*pager)->layer().quarantined()) continue;
    return forget_manual(record,
                         "a layer is quarantined: " + (*pager)->layer().quarantine_reason());
  }
  {
    MutexLock lock(mutex_);
    if (!absent_.emplace(record.dir, record).second) return;  // said already
  }
  log::warn("an image that was mounted by hand is not there yet; it is tried again",
            {{"dir", record.dir}, {"image", record.location}, {"why", why.message}});
}

void Node::forget_manual(const ManualRecord& record, const std::string& why) {
  log::error("an image that was mounted by hand cannot come back; mount it anew",
             {{"dir", record.dir}, {"image", record.location}, {"why", why}});
  ::unlink(manual_file(record.dir).c_str());
  mounts_->release(holder_of(record.dir));
  MutexLock lock(mutex_);
  absent_.erase(record.dir);
}

bool Node::is_absent(const std::filesystem::path& dir) const {
  MutexLock lock(mutex_);
  return absent_.contains(dir);
}

std::map<std::string, ManualRecord> Node::absent() const {
  MutexLock lock(mutex_);
  return absent_;
}

void Node::restore_loop() {
  for (std::chrono::seconds delay = kFirstRetry; !wait_for_stop(delay);
       delay = std::min(delay * 2, kLongestRetry)) {
    if (!retry_absent()) return;
  }
}

// False once none is left.
bool Node::retry_absent() {
  for (const auto& [dir, record] : absent()) {
    // May wait for a registry: without the lock.
    Result<std::shared_ptr<Served>> lost = find_lost_layers(record);
    MutexLock lock(manual_mutex_);
    if (!is_absent(dir)) continue;  // unmounted by hand meanwhile
    if (!lost.ok()) {
      if (lost.error().code == Code::failed_precondition)
        forget_manual(record, lost.error().message);
      continue;
    }
    if (Status status = show_again(record); !status.ok()) {
      note_absent(record, status.error());
      continue;
    }
    log::info("an image that was mounted by hand is back", {{"dir", dir}});
    MutexLock done(mutex_);
    absent_.erase(dir);
  }
  return !absent().empty();
}

// Layers that a crash took from the store are made anew from where the image
// came. failed_precondition: that is another image by now. The result keeps
// them; null where none is missing.
Result<std::shared_ptr<Node::Served>> Node::find_lost_layers(const ManualRecord& record) {
  bool lost = false;
  for (const std::string& id : record.layers) lost |= !layers_->find(id).ok();
  if (!lost) return std::shared_ptr<Served>();
  ASSIGN_OR_RETURN(auto loaded, load_manual(record.location));
  MutexLock lock(loaded->mutex);
  if (loaded->ids != record.layers) {
    return Error(Code::failed_precondition,
                 "layers of it were lost, and " + record.location + " names another image now");
  }
  return loaded;
}

}  // namespace pagein::node
