// Images mounted for `pagein record`: every read of them is noted.
#include <random>

#include "base/log.h"
#include "node/node.h"

namespace pagein::node {
namespace {

// Who records asks more often; one that was killed never again.
constexpr std::chrono::seconds kLease{60};
constexpr size_t kMaxRecordings = 16;
constexpr const char* kHolder = "record-";

std::string random_id() {
  std::random_device random;
  char text[17];
  std::snprintf(text, sizeof text, "%08x%08x", random(), random());
  return text;
}

}  // namespace

Result<Node::RecordingStart> Node::start_recording(const std::string& location) {
  if (!probe_.usable) {
    return Error(Code::unsupported, "no mount engine works on this kernel (see pagein doctor)");
  }
  {
    MutexLock lock(mutex_);
    if (recordings_.size() >= kMaxRecordings) {
      return Error(Code::exhausted, "too many recordings are under way");
    }
  }
  ASSIGN_OR_RETURN(const auto loaded, load_manual(location));
  RecordingStart start;
  start.id = random_id();
  PinRequest pin;
  pin.holder = kHolder + start.id;
  pin.name = location;
  pin.recorder = std::make_shared<ReadRecorder>();
  {
    MutexLock lock(loaded->mutex);
    pin.layers = loaded->ids;
    start.image = loaded->image;
  }
  if (pin.layers.empty()) return Error(Code::unsupported, location + " has no layers");
  ASSIGN_OR_RETURN(start.tree, mounts_->pin(pin));
  MutexLock lock(mutex_);
  recordings_[start.id] = {pin.recorder, parts_.now() + kLease};
  return start;
}

Result<std::shared_ptr<const ReadRecorder>> Node::recording(const std::string& id) {
  MutexLock lock(mutex_);
  const auto it = recordings_.find(id);
  if (it == recordings_.end()) return Error(Code::not_found, "there is no recording " + id);
  it->second.expires = parts_.now() + kLease;
  return std::shared_ptr<const ReadRecorder>(it->second.recorder);
}

Status Node::end_recording(const std::string& id) {
  {
    MutexLock lock(mutex_);
    if (recordings_.erase(id) == 0) return Error(Code::not_found, "there is no recording " + id);
  }
  mounts_->release(kHolder + id);
  return {};
}

void Node::end_old_recordings() {
  std::vector<std::string> old;
  {
    MutexLock lock(mutex_);
    for (const auto& [id, recording] : recordings_) {
      if (recording.expires < parts_.now()) old.push_back(id);
    }
  }
  for (const std::string& id : old) {
    log::warn("a recording that nobody asks for any more ends", {{"recording", id}});
    static_cast<void>(end_recording(id));
  }
}

}  // namespace pagein::node
