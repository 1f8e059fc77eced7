#include "fetch/pack_stream.h"

#include <algorithm>

namespace pagein::fetch {

// Passes one read's callbacks on, with the generation they belong to.
class PackStream::Sink : public registry::BlobSink {
 public:
  Sink(std::shared_ptr<PackStream> stream, uint64_t generation)
      : stream_(std::move(stream)), generation_(generation) {}
  void on_data(ByteView bytes) override { stream_->on_data(generation_, bytes); }
  void on_done(Status status) override { stream_->on_done(generation_, std::move(status)); }

 private:
  const std::shared_ptr<PackStream> stream_;
  const uint64_t generation_;
};

PackStream::PackStream(Context& context, PackStreamOptions options, std::function<void()> news)
    : context_(context), options_(std::move(options)), news_(std::move(news)) {}

void PackStream::open(uint64_t offset, uint64_t end) {
  uint64_t generation;
  registry::ReadId old;
  {
    MutexLock lock(mutex_);
    if (closed_) return;
    old = reading_.id;
    generation = ++reading_.generation;
    reading_.id = 0;
    input_.clear();
    front_used_ = buffered_ = 0;
    paused_ = ended_ = false;
    failure_.reset();
    last_news_ = context_.now();
  }
  if (old != 0) options_.source->cancel(old);
  position_.store(offset, std::memory_order_relaxed);
  end_ = end;
  registry::BlobRead read;
  read.digest = options_.digest;
  read.blob_size = options_.size;
  read.offset = offset;
  read.length = end - offset;
  read.priority = net::Priority::prefetch;
  read.deadline = options_.deadline;
  const registry::ReadId id =
      options_.source->read(read, std::make_shared<Sink>(shared_from_this(), generation));
  bool current;
  bool paused = false;
  {
    MutexLock lock(mutex_);
    current = generation == reading_.generation && !closed_;
    if (current) {
      reading_.id = id;
      paused = paused_;
    }
  }
  if (!current) options_.source->cancel(id);
  else if (paused) options_.source->pause(id);
}

void PackStream::close() {
  registry::ReadId old;
  {
    MutexLock lock(mutex_);
    if (std::exchange(closed_, true)) return;
    ++reading_.generation;
    old = std::exchange(reading_.id, 0);
    input_.clear();
    front_used_ = buffered_ = 0;
  }
  if (old != 0) options_.source->cancel(old);
}

void PackStream::on_data(uint64_t generation, ByteView bytes) {
  registry::ReadId pause = 0;
  {
    MutexLock lock(mutex_);
    if (generation != reading_.generation || closed_) return;
    // In here, as the context may be gone once we are closed.
    context_.counters().bytes[static_cast<size_t>(net::Priority::prefetch)] += bytes.size();
    last_news_ = context_.now();
    if (!first_byte_) first_byte_ = last_news_;
    received_.fetch_add(bytes.size(), std::memory_order_relaxed);
    input_.emplace_back(bytes.begin(), bytes.end());
    buffered_ += bytes.size();
    if (buffered_ > options_.max_buffered && !paused_) {
      paused_ = true;
      pause = reading_.id;
    }
  }
  if (pause != 0) options_.source->pause(pause);
  news_();
}

void PackStream::on_done(uint64_t generation, Status status) {
  {
    MutexLock lock(mutex_);
    if (generation != reading_.generation || closed_) return;
    ended_ = true;
    reading_.id = 0;
    if (!status.ok()) failure_ = std::move(status).error();
  }
  news_();
}

void PackStream::resume_if_room() {
  registry::ReadId resume = 0;
  {
    MutexLock lock(mutex_);
    if (!paused_ || buffered_ > options_.max_buffered / 2) return;
    paused_ = false;
    last_news_ = context_.now();
    resume = reading_.id;
  }
  if (resume != 0) options_.source->resume(resume);
}

Result<bool> PackStream::take(uint64_t length, Bytes* out) {
  uint64_t taken = 0;
  std::optional<Error> failure;
  {
    MutexLock lock(mutex_);
    while (out->size() < length && !input_.empty()) {
      const Bytes& front = input_.front();
      const size_t part = std::min<uint64_t>(length - out->size(), front.size() - front_used_);
      const auto begin = front.begin() + static_cast<ptrdiff_t>(front_used_);
      out->insert(out->end(), begin, begin + static_cast<ptrdiff_t>(part));
      front_used_ += part;
      taken += part;
      if (front_used_ < front.size()) continue;
      input_.pop_front();
      front_used_ = 0;
    }
    buffered_ -= taken;
    if (closed_) failure = Error(Code::cancelled, "the reading was called off");
    else if (out->size() < length && failure_) failure = failure_;
    else if (out->size() < length && ended_) failure = Error(Code::unavailable, "it ends early");
  }
  position_.fetch_add(taken, std::memory_order_relaxed);
  resume_if_room();
  if (out->size() == length) return true;
  if (failure) return *failure;
  return false;
}

Result<bool> PackStream::skip(uint64_t* left) {
  // As little as is here at once: no more memory than the buffer's.
  while (*left > 0) {
    Bytes dropped;
    const uint64_t part = std::min<uint64_t>(*left, 64 << 10);
    const Result<bool> all = take(part, &dropped);
    *left -= dropped.size();
    if (!all.ok() || !*all) return all;
  }
  return true;
}

double PackStream::bytes_per_second() const {
  MutexLock lock(mutex_);
  if (!first_byte_) return 0;
  const std::chrono::duration<double> time = context_.now() - *first_byte_;
  const uint64_t bytes = received() - buffered_;
  return time.count() <= 0 ? 0 : static_cast<double>(bytes) / time.count();
}

bool PackStream::stalled(std::chrono::milliseconds limit) const {
  MutexLock lock(mutex_);
  return !closed_ && !ended_ && !paused_ && buffered_ == 0 && context_.now() - last_news_ > limit;
}

}  // namespace pagein::fetch
