#include "fetch/startup_loader.h"

#include <algorithm>
#include <map>

#include "base/log.h"

namespace pagein::fetch {
namespace {

// A measurement gone wrong must not make demand wait for everything, nor gaps
// worth everything.
constexpr uint64_t kMaxRoundTripBytes = 2 << 20;
constexpr std::chrono::milliseconds kShortestWait{50};
constexpr std::chrono::milliseconds kLongestWait{1000};

}  // namespace

StartupLoader::StartupLoader(Context& context, StartupPack pack, StartupOptions options,
                             Ended ended)
    : context_(context),
      pack_(std::move(pack)),
      options_(std::move(options)),
      ended_(std::move(ended)) {}

std::shared_ptr<StartupLoader> StartupLoader::make(Context& context, StartupPack pack,
                                                   StartupOptions options, Ended ended) {
  const std::shared_ptr<StartupLoader> loader(
      new StartupLoader(context, std::move(pack), std::move(options), std::move(ended)));
  PackStreamOptions stream;
  stream.source = loader->pack_.source;
  stream.digest = loader->pack_.location.digest;
  stream.size = loader->pack_.location.size;
  stream.deadline = net::Clock::now() + context.options().deadline;
  stream.max_buffered = loader->options_.max_buffered;
  const std::weak_ptr<StartupLoader> weak = loader;
  loader->stream_ = std::make_shared<PackStream>(context, std::move(stream), [weak] {
    if (const auto self = weak.lock()) self->schedule();
  });
  loader->ranges_ = std::make_shared<RangePrefetch>(loader->options_.max_flights, [weak] {
    if (const auto self = weak.lock()) self->finish_part();
  });
  return loader;
}

void StartupLoader::start() {
  if (!context_.begin_startup(shared_from_this())) {
    end(State::cancelled, "page-in has stopped");
    return;
  }
  bool begun;
  {
    MutexLock lock(mutex_);
    begun = state_ == State::loading;
    begin_ = net::Clock::now();
  }
  // Cancelled before, perhaps before it was known to the context.
  if (!begun) return context_.end_startup(*this);
  stream_->open(0, pack_.location.size);
  watch();
}

void StartupLoader::cancel() { end(State::cancelled, "called off"); }

// What is_near() and on_awaited() go by: what the stream brings in one round
// trip, and what a request costs.
void StartupLoader::estimate() {
  const net::LinkEstimate link = pack_.source->link();
  double rate = stream_->bytes_per_second();
  if (rate <= 0) rate = std::max(link.peak_bytes_per_second, link.bytes_per_second);
  const double round_trip = static_cast<double>(link.least_first_byte.count()) / 1e6;
  const uint64_t bytes = std::min(static_cast<uint64_t>(rate * round_trip), kMaxRoundTripBytes) +
                         context_.options().least_fetch;
  allowance_.store(bytes, std::memory_order_relaxed);
  longest_wait_us_.store(
      rate <= 0 ? 0 : static_cast<int64_t>(static_cast<double>(bytes) / rate * 1e6),
      std::memory_order_relaxed);
}

bool StartupLoader::is_near(uint64_t place) const {
  const uint64_t position = stream_->position();
  return place <= position || place - position <= allowance_.load(std::memory_order_relaxed);
}

void StartupLoader::on_awaited(LayerPager& pager, size_t span) {
  const auto expected = std::chrono::duration_cast<std::chrono::milliseconds>(
      std::chrono::microseconds(longest_wait_us_.load(std::memory_order_relaxed)));
  const auto delay = std::clamp(2 * expected, kShortestWait, kLongestWait);
  options_.run_after(delay, [weak = weak_from_this(), weak_pager = pager.weak_from_this(), span] {
    const auto self = weak.lock();
    const auto late = weak_pager.lock();
    if (self != nullptr && late != nullptr) late->overtake(*self, span);
  });
}

void StartupLoader::watch() {
  options_.run_after(options_.patience / 2, [weak = weak_from_this()] {
    const auto self = weak.lock();
    if (self == nullptr || self->progress().state != State::loading) return;
    if (self->stream_->stalled(self->options_.patience)) {
      return self->fail(Error(Code::timeout, "nothing more comes"));
    }
    self->watch();
  });
}

void StartupLoader::schedule() {
  MutexLock lock(mutex_);
  if (state_ != State::loading) return;
  again_ = true;
  if (running_) return;
  running_ = true;
  context_.pool(net::Priority::prefetch).post([self = shared_from_this()] { self->work(); });
}

// A piece at a time, so that what somebody waits for gets the thread in between.
void StartupLoader::work() {
  {
    MutexLock lock(mutex_);
    again_ = false;
  }
  const Result<bool> more = step();
  if (!more.ok()) fail(more.error());
  MutexLock lock(mutex_);
  running_ = state_ == State::loading && (*more || again_);
  if (!running_) return;
  context_.pool(net::Priority::prefetch).post([self = shared_from_this()] { self->work(); });
}

Result<bool> StartupLoader::step() { return planned_ ? bring_next() : read_head(); }

Result<bool> StartupLoader::read_head() {
  ASSIGN_OR_RETURN(const bool all, stream_->take(pack_.location.head_size, &buffer_));
  if (!all) return false;
  if (oci::Digest::of(buffer_) != pack_.location.head_digest) {
    return Error(Code::corrupt_input, "its head does not have the digest that the manifest gives");
  }
  ASSIGN_OR_RETURN(const startup::PackHead head, startup::parse_pack_head(buffer_));
  if (head.blob_size() != pack_.location.size) {
    return Error(Code::corrupt_input, "its head speaks of another size than the manifest");
  }
  buffer_.clear();
  planned_ = true;
  estimate();
  RETURN_IF_ERROR(plan(head));
  bool ended;
  {
    MutexLock lock(mutex_);
    ended = state_ != State::loading;
  }
  // S1: what ended us may have been there before we were expected.
  if (ended) {
    for (const auto& pager : pack_.layers) pager->give_up(*this);
    return false;
  }
  ranges_->start();
  return true;
}

Status StartupLoader::plan(const startup::PackHead& head) {
  std::map<oci::Digest, std::shared_ptr<LayerPager>> by_diff_id;
  for (const auto& pager : pack_.layers) by_diff_id[pager->layer().index()->diff_id] = pager;
  std::vector<std::shared_ptr<LayerPager>> pagers;
  for (const oci::Digest& diff_id : head.diff_ids) {
    const auto it = by_diff_id.find(diff_id);
    pagers.push_back(it != by_diff_id.end() ? it->second : nullptr);
  }
  uint64_t offset = head.head_size;
  for (const startup::Piece& piece : head.pieces) {
    const auto& pager = pagers[piece.layer];
    const uint64_t begin = std::exchange(offset, offset + piece.stored_size);
    if (pager == nullptr) continue;
    const Run run{piece.first_span, size_t{piece.first_span} + piece.span_count};
    if (run.last > pager->layer().index()->spans.size()) {
      return Error(Code::corrupt_input, "it names spans that a layer does not have");
    }
    if (piece.stored_size == 0) {
      ranges_->add(pager, run);
    } else if (pager->expect(shared_from_this(), run, offset) > 0) {
      wanted_.push_back({pager.get(), run, begin, piece.stored_size});
    }
  }
  return {};
}

bool StartupLoader::is_wanted(const Wanted& piece) const {
  return piece.pager->expects(*this, piece.run);
}

Result<bool> StartupLoader::bring_next() {
  while (!placed_ && next_ < wanted_.size() && !is_wanted(wanted_[next_])) ++next_;
  if (next_ == wanted_.size()) {
    if (std::exchange(over_, true)) return false;
    stream_->close();
    finish_part();
    return false;
  }
  const Wanted& piece = wanted_[next_];
  if (!std::exchange(placed_, true)) go_on_at(piece);
  ASSIGN_OR_RETURN(const bool there, stream_->skip(&skip_));
  if (!there) return false;
  ASSIGN_OR_RETURN(const bool all, stream_->take(piece.size, &buffer_));
  if (!all) return false;
  RETURN_IF_ERROR(bring(piece, buffer_));
  buffer_.clear();
  placed_ = false;
  ++next_;
  estimate();
  return true;
}

// The stream goes on, or begins anew where much of the pack is not wanted.
void StartupLoader::go_on_at(const Wanted& piece) {
  const uint64_t round_trip =
      std::min(pack_.source->link().bytes_per_round_trip(), kMaxRoundTripBytes);
  const uint64_t gap = std::max(options_.least_gap, 4 * round_trip);
  const uint64_t position = stream_->position();
  if (piece.end() <= stream_->end() && piece.offset - position <= gap) {
    skip_ = piece.offset - position;
    return;
  }
  uint64_t end = piece.end();
  for (size_t i = next_ + 1; i < wanted_.size(); ++i) {
    if (!is_wanted(wanted_[i])) continue;
    if (wanted_[i].offset - end > gap) break;
    end = wanted_[i].end();
  }
  skip_ = 0;
  stream_->open(piece.offset, end);
}

Status StartupLoader::bring(const Wanted& piece, ByteView frame) {
  if (!is_wanted(piece)) return {};
  const index::LayerIndex& index = *piece.pager->layer().index();
  std::vector<uint64_t> sizes;
  for (size_t span = piece.run.first; span < piece.run.last; ++span) {
    sizes.push_back(index.span_end(span) - index.spans[span].uncompressed_begin);
  }
  ASSIGN_OR_RETURN(const auto spans, decoder_.decode(frame, sizes));
  for (size_t i = 0; i < spans.size(); ++i) {
    RETURN_IF_ERROR(piece.pager->deliver(*this, piece.run.first + i, spans[i]));
    spans_.fetch_add(1, std::memory_order_relaxed);
  }
  return {};
}

void StartupLoader::finish_part() {
  {
    MutexLock lock(mutex_);
    if (--parts_left_ > 0) return;
  }
  if (!end(State::done, "")) return;
  const Progress now = progress();
  log::info("a startup pack is loaded", {{"image", pack_.image},
                                         {"bytes", now.received},
                                         {"spans", now.spans},
                                         {"ms", now.time.count() / 1000}});
}

void StartupLoader::fail(const Error& why) {
  if (!end(State::failed, why.message)) return;
  log::warn("a startup pack is of no use: the image starts without it",
            {{"image", pack_.image}, {"why", why.message}});
}

bool StartupLoader::end(State state, const std::string& error) {
  Ended ended;
  {
    MutexLock lock(mutex_);
    if (state_ != State::loading) return false;
    state_ = state;
    error_ = error;
    end_ = net::Clock::now();
    ended.swap(ended_);
  }
  if (state == State::failed) context_.counters().startup_failures++;
  stream_->close();
  ranges_->cancel();
  for (const auto& pager : pack_.layers) pager->give_up(*this);
  if (ended) ended();
  context_.end_startup(*this);  // last: the context may go now
  return true;
}

StartupLoader::Progress StartupLoader::progress() const {
  Progress progress;
  progress.size = pack_.location.size;
  progress.received = stream_->received();
  progress.spans = spans_.load(std::memory_order_relaxed);
  MutexLock lock(mutex_);
  progress.state = state_;
  progress.error = error_;
  if (begin_ != net::Clock::time_point()) {
    progress.time = std::chrono::duration_cast<std::chrono::microseconds>(
        (state_ == State::loading ? net::Clock::now() : end_) - begin_);
  }
  return progress;
}

}  // namespace pagein::fetch
