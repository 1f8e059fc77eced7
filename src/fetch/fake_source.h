// A blob source in memory whose answers a test directs. For tests only.
#pragma once

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <thread>

#include "base/mutex.h"
#include "registry/blob_source.h"

namespace pagein::fetch::testing {

// What becomes of one read. A value.
struct Answer {
  Status status = {};                  // of the end, after `bytes` of what was asked for
  std::optional<uint64_t> bytes = {};  // nothing: all
  bool hold = false;                   // waits for release(), or for cancel
  bool hold_until_promoted = false;    // or, with hold, for promote()
  bool hold_end = false;               // gives the data at once, holds the end
  std::optional<uint64_t> hold_at =
      {};                             // gives what lies before this offset of the blob, then holds
  std::optional<uint64_t> flip = {};  // changes the byte at this offset of the blob
};

// Callbacks come on one thread of its own. Thread-safe.
class FakeSource : public registry::BlobSource {
 public:
  explicit FakeSource(std::string name = "fake") : name_(std::move(name)) {
    thread_ = std::thread([this] { run(); });
  }
  ~FakeSource() override {
    {
      MutexLock lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }

  void add_blob(const Bytes& blob) {
    MutexLock lock(mutex_);
    blobs_[oci::Digest::of(blob).str()] = blob;
  }
  // Decides on each read as it comes (`index`: how many came before), on the
  // caller's thread of read(). Not set: everything succeeds.
  using Script = std::function<Answer(size_t index, const registry::BlobRead& read)>;
  void set_script(Script script) {
    MutexLock lock(mutex_);
    script_ = std::move(script);
  }
  // Lets go of what is held now.
  void release() {
    MutexLock lock(mutex_);
    for (auto& [id, job] : jobs_) {
      if (job.held) queue_.push_back(id);
      job.held = false;
    }
    wake_.notify_all();
  }
  std::vector<registry::BlobRead> reads() const {
    MutexLock lock(mutex_);
    return reads_;
  }
  size_t reads_of(const oci::Digest& digest) const {
    MutexLock lock(mutex_);
    return static_cast<size_t>(std::count_if(
        reads_.begin(), reads_.end(), [&](const auto& read) { return read.digest == digest; }));
  }
  size_t cancelled() const {
    MutexLock lock(mutex_);
    return cancelled_;
  }
  size_t under_way() const {
    MutexLock lock(mutex_);
    return jobs_.size();
  }
  void wait_for_reads(size_t count) const {
    MutexLock lock(mutex_);
    while (reads_.size() < count) wake_.wait(mutex_);
  }
  // Everything that was asked for has ended.
  void wait_idle() const {
    MutexLock lock(mutex_);
    while (!jobs_.empty()) wake_.wait(mutex_);
  }
  // All that is not held has been given to the sinks.
  void wait_quiet() const {
    MutexLock lock(mutex_);
    while (!queue_.empty() || busy_) wake_.wait(mutex_);
  }

  registry::ReadId read(const registry::BlobRead& read,
                        std::shared_ptr<registry::BlobSink> sink) override {
    MutexLock lock(mutex_);
    const registry::ReadId id = ++last_id_;
    Job job;
    job.read = read;
    job.sink = std::move(sink);
    if (script_) job.answer = script_(reads_.size(), read);
    job.held = job.answer.hold;
    reads_.push_back(read);
    if (!job.held) queue_.push_back(id);
    jobs_.emplace(id, std::move(job));
    wake_.notify_all();
    return id;
  }
  void cancel(registry::ReadId id) override {
    MutexLock lock(mutex_);
    const auto it = jobs_.find(id);
    if (it == jobs_.end() || it->second.cancelled) return;
    ++cancelled_;
    it->second.cancelled = true;
    it->second.held = false;
    queue_.push_back(id);
    wake_.notify_all();
  }
  // Lets go of it where it waits for release() and has given nothing.
  void promote(registry::ReadId id) override {
    MutexLock lock(mutex_);
    const auto it = jobs_.find(id);
    if (it == jobs_.end()) return;
    ++promoted_;
    if (!it->second.held || it->second.data_given || !it->second.answer.hold_until_promoted) return;
    it->second.held = false;
    queue_.push_back(id);
    wake_.notify_all();
  }
  size_t promoted() const {
    MutexLock lock(mutex_);
    return promoted_;
  }
  // Only counted.
  void pause(registry::ReadId) override {
    MutexLock lock(mutex_);
    ++paused_;
  }
  size_t paused() const {
    MutexLock lock(mutex_);
    return paused_;
  }
  void resume(registry::ReadId) override {}
  net::LinkEstimate link() const override {
    MutexLock lock(mutex_);
    return link_;
  }
  void set_link(net::LinkEstimate link) {
    MutexLock lock(mutex_);
    link_ = link;
  }
  std::string describe() const override { return name_; }

 private:
  struct Job {
    registry::BlobRead read;
    std::shared_ptr<registry::BlobSink> sink;
    Answer answer;
    bool held = false;
    bool cancelled = false;
    bool data_given = false;
    bool stopped = false;  // at hold_at, once
    uint64_t given = 0;    // bytes
  };

  void run() {
    MutexLock lock(mutex_);
    for (;;) {
      while (queue_.empty() && !stopping_) wake_.wait(mutex_);
      if (stopping_) return;
      const registry::ReadId id = queue_.front();
      queue_.pop_front();
      if (const auto it = jobs_.find(id); it != jobs_.end()) serve(id, it->second);
      wake_.notify_all();
    }
  }

  void serve(registry::ReadId id, Job& job) REQUIRES(mutex_) {
    const auto sink = job.sink;
    if (!job.cancelled && !job.data_given) {
      const uint64_t from = job.given;
      const bool stop_short = job.answer.hold_at && !std::exchange(job.stopped, true);
      job.data_given = !stop_short;
      const auto blob = blobs_.find(job.read.digest.str());
      Bytes data;
      Status status = job.answer.status;
      if (blob == blobs_.end()) {
        status = Error(Code::not_found, name_ + " has no blob " + job.read.digest.str());
      } else if (job.read.length == 0 || job.read.blob_size != blob->second.size() ||
                 job.read.offset + job.read.length > blob->second.size()) {
        status = Error(Code::invalid_argument, "a read outside of the blob");
      } else {
        uint64_t length = std::min(job.answer.bytes.value_or(job.read.length), job.read.length);
        if (stop_short) {
          length =
              std::min(length, std::max(*job.answer.hold_at, job.read.offset) - job.read.offset);
        }
        job.given = length;
        const auto begin = blob->second.begin() + static_cast<ptrdiff_t>(job.read.offset);
        data.assign(begin, begin + static_cast<ptrdiff_t>(length));
        if (const auto flip = job.answer.flip;
            flip && *flip >= job.read.offset && *flip < job.read.offset + length) {
          data[*flip - job.read.offset] ^= 0x40;
        }
      }
      job.answer.status = std::move(status);
      busy_ = true;
      mutex_.unlock();
      // In pieces that fit nothing.
      for (size_t at = from; at < data.size(); at += 10'007) {
        sink->on_data(ByteView(data).subspan(at, std::min<size_t>(10'007, data.size() - at)));
      }
      mutex_.lock();
      busy_ = false;
      if ((job.answer.hold_end || stop_short) && !job.cancelled) {
        job.held = true;
        return;
      }
    }
    const Status status =
        job.cancelled ? Status(Error(Code::cancelled, "cancelled")) : job.answer.status;
    std::erase(queue_, id);
    busy_ = true;
    mutex_.unlock();
    sink->on_done(status);
    mutex_.lock();
    busy_ = false;
    jobs_.erase(id);
  }

  const std::string name_;
  mutable Mutex mutex_;
  mutable CondVar wake_;
  std::map<std::string, Bytes> blobs_ GUARDED_BY(mutex_);
  Script script_ GUARDED_BY(mutex_);
  std::map<registry::ReadId, Job> jobs_ GUARDED_BY(mutex_);
  std::deque<registry::ReadId> queue_ GUARDED_BY(mutex_);
  std::vector<registry::BlobRead> reads_ GUARDED_BY(mutex_);
  registry::ReadId last_id_ GUARDED_BY(mutex_) = 0;
  size_t cancelled_ GUARDED_BY(mutex_) = 0;
  size_t promoted_ GUARDED_BY(mutex_) = 0;
  size_t paused_ GUARDED_BY(mutex_) = 0;
  net::LinkEstimate link_ GUARDED_BY(mutex_);
  bool busy_ GUARDED_BY(mutex_) = false;
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace pagein::fetch::testing
