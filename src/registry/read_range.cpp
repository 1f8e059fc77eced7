#include "registry/read_range.h"

#include "base/mutex.h"

namespace pagein::registry {

class PendingRead::Collector : public BlobSink {
 public:
  void on_data(ByteView data) override {
    MutexLock lock(mutex_);
    bytes_.insert(bytes_.end(), data.begin(), data.end());
  }
  void on_done(Status status) override {
    MutexLock lock(mutex_);
    status_ = std::move(status);
    done_ = true;
    wake_.notify_all();
  }
  Result<Bytes> wait() {
    MutexLock lock(mutex_);
    while (!done_) wake_.wait(mutex_);
    if (!status_.ok()) return status_.error();
    return std::move(bytes_);
  }

 private:
  Mutex mutex_;
  CondVar wake_;
  Bytes bytes_ GUARDED_BY(mutex_);
  Status status_ GUARDED_BY(mutex_);
  bool done_ GUARDED_BY(mutex_) = false;
};

PendingRead::PendingRead(BlobSource& source, const BlobRead& read)
    : collector_(std::make_shared<Collector>()) {
  source.read(read, collector_);
}

Result<Bytes> PendingRead::wait() { return collector_->wait(); }

}  // namespace pagein::registry
