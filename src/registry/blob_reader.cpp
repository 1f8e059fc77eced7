#include "registry/blob_reader.h"

#include <algorithm>
#include <cstring>
#include <deque>

#include "base/mutex.h"

namespace pagein::registry {

// Between the source's thread and the reader. The mutex is held while the
// source is paused or resumed (which call nothing back), so that the two
// orders cannot cross.
class BlobReader::Queue : public BlobSink {
 public:
  Queue(std::shared_ptr<BlobSource> source, size_t cap) : source_(std::move(source)), cap_(cap) {}

  void on_data(ByteView data) override {
    MutexLock lock(mutex_);
    if (cancelled_) return;
    pieces_.emplace_back(data.begin(), data.end());
    held_ += data.size();
    pause_if_full();
    changed_.notify_all();
  }
  void on_done(Status status) override {
    MutexLock lock(mutex_);
    done_ = true;
    if (!cancelled_) end_ = std::move(status);
    changed_.notify_all();
  }

  void set_id(ReadId id) {
    MutexLock lock(mutex_);
    id_ = id;
    pause_if_full();
  }

  Result<size_t> read(std::span<uint8_t> out) {
    MutexLock lock(mutex_);
    while (pieces_.empty() && !done_) changed_.wait(mutex_);
    if (cancelled_ || pieces_.empty()) {
      if (!end_.ok()) return end_.error();
      return size_t{0};
    }
    const Bytes& front = pieces_.front();
    const size_t n = std::min(out.size(), front.size() - taken_);
    std::memcpy(out.data(), front.data() + taken_, n);
    taken_ += n;
    held_ -= n;
    if (taken_ == front.size()) {
      pieces_.pop_front();
      taken_ = 0;
    }
    if (paused_ && held_ <= cap_ / 2) {
      paused_ = false;
      source_->resume(id_);
    }
    return n;
  }

  void cancel() {
    MutexLock lock(mutex_);
    if (!done_ || !pieces_.empty()) {
      cancelled_ = done_ = true;
      end_ = Error(Code::cancelled, source_->describe() + ": reading a blob was cancelled");
      pieces_.clear();
    }
    changed_.notify_all();
  }

 private:
  void pause_if_full() REQUIRES(mutex_) {
    if (held_ < cap_ || id_ == 0 || done_) return;
    paused_ = true;
    source_->pause(id_);
  }

  const std::shared_ptr<BlobSource> source_;
  const size_t cap_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Bytes> pieces_ GUARDED_BY(mutex_);
  size_t taken_ GUARDED_BY(mutex_) = 0;  // of the first piece
  size_t held_ GUARDED_BY(mutex_) = 0;
  ReadId id_ GUARDED_BY(mutex_) = 0;
  bool paused_ GUARDED_BY(mutex_) = false;
  bool done_ GUARDED_BY(mutex_) = false;
  bool cancelled_ GUARDED_BY(mutex_) = false;
  Status end_ GUARDED_BY(mutex_);
};

BlobReader::BlobReader(std::shared_ptr<BlobSource> source, const oci::Digest& digest,
                       uint64_t blob_size, uint64_t offset, BlobReaderOptions options)
    : source_(std::move(source)), queue_(std::make_shared<Queue>(source_, options.queue_bytes)) {
  if (offset >= blob_size) {
    queue_->on_done(offset == blob_size
                        ? Status()
                        : Status(Error(Code::invalid_argument, "an offset beyond the blob")));
    return;
  }
  id_ = source_->read({.digest = digest,
                       .blob_size = blob_size,
                       .offset = offset,
                       .length = blob_size - offset,
                       .priority = options.priority,
                       .deadline = options.deadline},
                      queue_);
  queue_->set_id(id_);
}

BlobReader::~BlobReader() { cancel(); }

Result<size_t> BlobReader::read(std::span<uint8_t> out) { return queue_->read(out); }

void BlobReader::cancel() {
  queue_->cancel();
  if (id_ != 0) source_->cancel(id_);
}

VerifyingStream::VerifyingStream(std::unique_ptr<ByteStream> inner, const oci::Digest& digest,
                                 uint64_t size)
    : inner_(std::move(inner)), digest_(digest), size_(size) {}

Result<size_t> VerifyingStream::read(std::span<uint8_t> out) {
  auto end_with = [&](Status status) -> Result<size_t> {
    ended_ = true;
    end_ = std::move(status);
    if (!end_.ok()) return end_.error();
    return size_t{0};
  };
  if (ended_) return end_with(std::move(end_));
  Result<size_t> n = inner_->read(out);
  if (!n.ok()) return end_with(n.error());
  if (*n > 0) {
    seen_ += *n;
    if (seen_ > size_) {
      return end_with(Error(Code::corrupt_input, "blob " + digest_.str() + " has more than its " +
                                                     std::to_string(size_) + " bytes"));
    }
    hash_.update(out.first(*n));
    return *n;
  }
  if (seen_ != size_) {
    return end_with(Error(Code::corrupt_input, "blob " + digest_.str() + " has " +
                                                   std::to_string(seen_) + " bytes instead of " +
                                                   std::to_string(size_)));
  }
  const oci::Digest found(hash_.finish());
  if (found != digest_) {
    return end_with(Error(Code::corrupt_input,
                          "blob " + digest_.str() + " has content with digest " + found.str()));
  }
  return end_with({});
}

}  // namespace pagein::registry
