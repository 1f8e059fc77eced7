#include "fetch/checkpoints.h"

#include <utility>

namespace pagein::fetch {

bool CheckpointBudget::take(uint64_t bytes) {
  uint64_t left = left_.load();
  while (left >= bytes) {
    if (left_.compare_exchange_weak(left, left - bytes)) return true;
  }
  return false;
}

class Checkpoints::Sink : public registry::BlobSink {
 public:
  explicit Sink(std::shared_ptr<Checkpoints> owner) : owner_(std::move(owner)) {}
  void on_data(ByteView bytes) override { owner_->on_data(bytes); }
  // What came of a read that failed serves as well as the whole.
  void on_done(Status) override {}

 private:
  const std::shared_ptr<Checkpoints> owner_;
};

Checkpoints::Checkpoints(std::shared_ptr<const index::LayerIndex> index,
                         std::shared_ptr<CheckpointBudget> budget)
    : index_(std::move(index)), budget_(std::move(budget)) {}

Checkpoints::~Checkpoints() {
  MutexLock lock(mutex_);
  release();
}

void Checkpoints::release() {
  budget_->give_back(std::exchange(taken_, 0));
  bytes_ = Bytes();
}

void Checkpoints::load(const LayerOrigin& origin, net::Clock::time_point deadline) {
  // Of long zstd frames they are many bytes for few spans, of which each needs
  // its own: flights fetch them.
  if (index_->encoding == codec::Encoding::zstd_blocks) return;
  registry::BlobRead read;
  read.digest = origin.index_blob;
  read.blob_size = origin.index_blob_size;
  read.offset = index_->head_size;
  read.length = index_->checkpoints_size;
  read.priority = net::Priority::prefetch;
  read.deadline = deadline;
  {
    MutexLock lock(mutex_);
    if (std::exchange(begun_, true) || dropped_ || read.length == 0) return;
    if (!budget_->take(read.length)) return;
    taken_ = read.length;
    bytes_.reserve(read.length);
    source_ = origin.source;
  }
  const registry::ReadId id = origin.source->read(read, std::make_shared<Sink>(shared_from_this()));
  {
    MutexLock lock(mutex_);
    if (!dropped_) {
      read_ = id;
      return;
    }
  }
  origin.source->cancel(id);
}

void Checkpoints::on_data(ByteView bytes) {
  MutexLock lock(mutex_);
  if (dropped_ || bytes_.size() + bytes.size() > taken_) return;
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

std::optional<Bytes> Checkpoints::find(size_t span) const {
  const index::Span& start = index_->spans[span];
  if (start.payload_size == 0) return Bytes();
  MutexLock lock(mutex_);
  if (start.payload_offset + start.payload_size > bytes_.size()) return std::nullopt;
  const auto begin = bytes_.begin() + static_cast<ptrdiff_t>(start.payload_offset);
  return Bytes(begin, begin + start.payload_size);
}

void Checkpoints::drop() {
  std::shared_ptr<registry::BlobSource> source;
  registry::ReadId id;
  {
    MutexLock lock(mutex_);
    if (std::exchange(dropped_, true)) return;
    release();
    source = std::move(source_);
    id = std::exchange(read_, 0);
  }
  if (source && id != 0) source->cancel(id);
}

void Checkpoints::distrust() {
  std::shared_ptr<registry::BlobSource> source;
  registry::ReadId id;
  {
    MutexLock lock(mutex_);
    source = source_;
    id = read_;
  }
  drop();
  if (source && id != 0) source->distrust(id);
}

}  // namespace pagein::fetch
