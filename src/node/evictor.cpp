#include "node/evictor.h"

#include <sys/statvfs.h>

#include <algorithm>

#include "base/guard.h"
#include "base/log.h"

namespace pagein::node {
namespace {

// Of the disk, what others shall find free, if evicting can do it.
constexpr uint64_t kKeepFree = 20;  // 1/20
// Where nothing could be evicted, it is not tried again sooner.
constexpr std::chrono::seconds kRest{2};
// While something is written, the disk is asked this often what it takes.
constexpr std::chrono::seconds kRecount{5};

struct Disk {
  uint64_t size = 0;
  uint64_t free = 0;
};

// Zeros where the file system does not say.
Disk disk_of(const std::filesystem::path& path) {
  struct statvfs found;
  if (::statvfs(path.c_str(), &found) != 0) return {};
  return {found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize};
}

uint64_t limit_of(const EvictorOptions& options, uint64_t disk_size) {
  uint64_t limit = store::SpaceMeter::kNoLimit;
  if (disk_size > 0) limit = disk_size / 100 * options.max_percent;
  if (options.max_bytes > 0) limit = std::min(limit, options.max_bytes);
  return limit;
}

}  // namespace

Evictor::Evictor(store::LayerStore& store, std::filesystem::path root, EvictorOptions options)
    : store_(store), root_(std::move(root)), options_(std::move(options)) {
  store_.space().set_limit(limit_of(options_, disk_of(root_).size));
  thread_ = std::thread([this] { guard("evictor", [this] { loop(); }); });
}

Evictor::~Evictor() { stop(); }

void Evictor::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  store_.space().stop();
  if (thread_.joinable()) thread_.join();
}

uint64_t Evictor::target() const {
  const uint64_t used = store_.usage().bytes;
  uint64_t target = store_.space().target();
  const Disk disk = disk_of(root_);
  const uint64_t keep_free = disk.size / kKeepFree;
  if (disk.free < keep_free) {
    const uint64_t missing = keep_free - disk.free;
    target = std::min(target, used - std::min(used, missing));
  }
  return target;
}

store::LayerStore::Evicted Evictor::make_room(std::optional<uint64_t> target) {
  const uint64_t goal = target ? *target : this->target();
  auto evicted = store_.evict(goal);
  if (store_.space().used() > goal) {
    options_.let_go();
    const auto more = store_.evict(goal);
    evicted.layers += more.layers;
    evicted.bytes += more.bytes;
  }
  layers_.fetch_add(evicted.layers);
  bytes_.fetch_add(evicted.bytes);
  return evicted;
}

// True where it was ended meanwhile.
bool Evictor::rest() {
  const auto until = std::chrono::steady_clock::now() + kRest;
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (wake_.wait_until(mutex_, until) == std::cv_status::timeout) break;
  }
  return stopping_;
}

void Evictor::loop() {
  bool said = false;
  uint64_t counted = 0;
  for (;;) {
    const bool called = store_.space().wait(kRecount);
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
    }
    if (!called) {
      if (store_.space().used() != counted) store_.recount();
      counted = store_.space().used();
      continue;
    }
    if (make_room().layers > 0) {
      said = false;
      continue;
    }
    if (!said) {
      log::warn(
          "the store is full, and mounted images need all of it; what they read beyond it is "
          "fetched each time",
          {{"bytes", store_.space().used()}, {"limit", store_.space().limit()}});
    }
    said = true;
    if (rest()) return;
    store_.recount();  // calls again while it is so
  }
}

}  // namespace pagein::node
