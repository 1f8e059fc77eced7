#include "fetch/layer_pager.h"

#include <algorithm>

#include "base/log.h"

namespace pagein::fetch {
namespace {

constexpr size_t kStreams = 8;
// Spans held in memory while the disk is full, per layer.
constexpr size_t kMaxAside = 64;

}  // namespace

struct LayerPager::Waiter {
  Completion done;
  std::atomic<size_t> remaining{1};
  Mutex mutex;
  Status status GUARDED_BY(mutex);

  void finish(const Status& result) {
    if (!result.ok()) {
      MutexLock lock(mutex);
      if (status.ok()) status = result;
    }
    if (remaining.fetch_sub(1) != 1) return;
    Status final_status;
    {
      MutexLock lock(mutex);
      final_status = std::move(status);
    }
    done(std::move(final_status));
  }
};

LayerPager::LayerPager(Context& context, std::shared_ptr<store::Layer> layer,
                       std::vector<LayerOrigin> origins)
    : context_(context),
      layer_(std::move(layer)),
      origins_(std::move(origins)),
      streams_(kStreams),
      proven_(layer_->complete()) {}

LayerPager::~LayerPager() = default;

std::shared_ptr<LayerPager> LayerPager::make(Context& context, std::shared_ptr<store::Layer> layer,
                                             std::vector<LayerOrigin> origins) {
  return std::shared_ptr<LayerPager>(
      new LayerPager(context, std::move(layer), std::move(origins)));
}

void LayerPager::set_origins(std::vector<LayerOrigin> origins) {
  MutexLock lock(mutex_);
  origins_ = std::move(origins);
}

std::string LayerPager::origin_name() const {
  MutexLock lock(mutex_);
  return origins_.empty() ? std::string() : origins_.front().name;
}

bool LayerPager::is_here(size_t span) const {
  return layer_->presence().test(span) || aside_.contains(span);
}

std::shared_ptr<Flight> LayerPager::make_flight(Run run, net::Priority priority) {
  auto flight = std::make_shared<Flight>(context_, layer_->index(), origins_, run, priority,
                                         shared_from_this());
  for (size_t span = run.first; span < run.last; ++span) pending_[span].flight = flight;
  return flight;
}

// A reader that goes on where it got data last is given twice as much.
Run LayerPager::read_ahead(Run run) {
  const index::LayerIndex& index = *layer_->index();
  size_t length = run.last - run.first;
  Stream* stream = nullptr;
  for (Stream& candidate : streams_) {
    if (candidate.length > 0 && candidate.next == run.first) stream = &candidate;
  }
  if (stream != nullptr) {
    length = std::max(length, stream->length * 2);
  } else {
    stream = &streams_[next_stream_++ % streams_.size()];
  }
  const uint64_t limit =
      index.spans[run.first].uncompressed_begin + context_.options().max_read_ahead;
  while (run.last < index.spans.size() && run.last - run.first < length &&
         index.span_end(run.last) <= limit && !is_here(run.last) &&
         !pending_.contains(run.last)) {
    ++run.last;
  }
  *stream = {run.last, run.last - run.first};
  return run;
}

void LayerPager::want(uint64_t data_offset, uint64_t length, net::Priority priority,
                      Completion done) {
  if (layer_->quarantined()) {
    done(Error(Code::corrupt_input, "layer is quarantined: " + layer_->quarantine_reason()));
    return;
  }
  const auto [first, last] = layer_->spans_of(data_offset, length);
  auto waiter = std::make_shared<Waiter>();
  waiter->done = std::move(done);
  std::vector<std::shared_ptr<Flight>> fresh;
  std::vector<std::shared_ptr<Flight>> joined;
  Status problem;
  {
    MutexLock lock(mutex_);
    for (size_t span = first; span < last && problem.ok();) {
      if (is_here(span)) {
        ++span;
        continue;
      }
      if (auto it = pending_.find(span); it != pending_.end()) {
        waiter->remaining++;
        it->second.waiters.push_back(waiter);
        if (joined.empty() || joined.back() != it->second.flight) joined.push_back(it->second.flight);
        ++span;
        continue;
      }
      if (origins_.empty()) {
        problem = Error(Code::unavailable, "layer " + layer_->index()->layer_digest.str() +
                                               " is not complete here and no registry is known for it");
        break;
      }
      Run run{span, span + 1};
      while (run.last < last && !is_here(run.last) && !pending_.contains(run.last)) ++run.last;
      const size_t wanted_end = run.last;
      if (priority == net::Priority::demand) run = read_ahead(run);
      fresh.push_back(make_flight(run, priority));
      for (; span < wanted_end; ++span) {
        waiter->remaining++;
        pending_[span].waiters.push_back(waiter);
      }
    }
  }
  if (!fresh.empty() || !joined.empty()) context_.counters().reads++;
  if (!joined.empty()) context_.counters().joined++;
  if (priority == net::Priority::demand) {
    for (const auto& flight : joined) flight->promote();
  }
  for (const auto& flight : fresh) flight->start();
  waiter->finish(problem);
}

void LayerPager::settle(std::vector<std::shared_ptr<Waiter>>& waiters, const Status& status) {
  for (const auto& waiter : waiters) waiter->finish(status);
}

void LayerPager::on_span(size_t span, ByteView tar) {
  Status written = layer_->write_span(span, tar);
  if (!written.ok()) {
    // Readers come first: they get the bytes from memory.
    context_.counters().store_full++;
    keep_aside(span, tar);
    MutexLock lock(mutex_);
    write_error_ = std::move(written).error();
  } else {
    // In order, the proof of the diffID costs no read.
    if (proof_mutex_.try_lock()) {
      if (proof_next_ == span && !proven_) {
        proof_.update(tar);
        ++proof_next_;
      }
      proof_mutex_.unlock();
    }
  }
  std::vector<std::shared_ptr<Waiter>> waiters;
  {
    MutexLock lock(mutex_);
    if (auto it = pending_.find(span); it != pending_.end()) {
      waiters = std::move(it->second.waiters);
      pending_.erase(it);
    }
  }
  settle(waiters, {});
}

void LayerPager::on_flight_end(const Run& run, net::Priority, Status status) {
  // For readers the flight succeeded; for the background load it must not
  // look so, or it would fetch the same spans for ever.
  std::optional<Error> not_kept;
  std::vector<std::shared_ptr<Waiter>> waiters;
  Completion done;
  {
    MutexLock lock(mutex_);
    for (size_t span = run.first; span < run.last; ++span) {
      auto it = pending_.find(span);
      if (it == pending_.end() || it->second.flight->run().first != run.first) continue;
      std::move(it->second.waiters.begin(), it->second.waiters.end(), std::back_inserter(waiters));
      pending_.erase(it);
    }
    if (auto it = background_.find(run.first); it != background_.end()) {
      done = std::move(it->second);
      background_.erase(it);
    }
    not_kept = std::exchange(write_error_, std::nullopt);
    if (!status.ok() || not_kept) background_cursor_ = std::min(background_cursor_, run.first);
  }
  settle(waiters, status);
  if (!done) return;
  if (status.ok() && not_kept) status = std::move(*not_kept);
  done(std::move(status));
}

bool LayerPager::start_background_run(Completion done) {
  const index::LayerIndex& index = *layer_->index();
  std::shared_ptr<Flight> flight;
  {
    MutexLock lock(mutex_);
    if (origins_.empty() || layer_->complete()) return false;
    const size_t count = index.spans.size();
    size_t first = background_cursor_;
    for (;;) {
      first = layer_->presence().first_missing(first, count);
      if (first == count) return false;
      if (!pending_.contains(first)) break;
      ++first;
    }
    const uint64_t begin = index.spans[first].start.compressed_bit / 8;
    Run run{first, first + 1};
    while (run.last < count && !layer_->presence().test(run.last) && !pending_.contains(run.last) &&
           index.spans[run.last].start.compressed_bit / 8 - begin < context_.options().background_run) {
      ++run.last;
    }
    background_cursor_ = run.last;
    flight = make_flight(run, net::Priority::background);
    background_.emplace(run.first, std::move(done));
  }
  flight->start();
  return true;
}

bool LayerPager::settled() const {
  return proven_ || layer_->complete() || layer_->quarantined();
}

void LayerPager::advance_proof() {
  MutexLock lock(proof_mutex_);
  const index::LayerIndex& index = *layer_->index();
  if (proven_) return;
  Bytes tar;
  for (; proof_next_ < index.spans.size(); ++proof_next_) {
    if (!layer_->presence().test(proof_next_)) return;
    tar.resize(index.span_end(proof_next_) - index.spans[proof_next_].uncompressed_begin);
    if (Status status = layer_->read_span(proof_next_, tar); !status.ok()) {
      log::warn("cannot read back a span of a layer", {{"layer", layer_->id()},
                                                       {"why", status.error().message}});
      return;
    }
    proof_.update(tar);
  }
  proven_ = true;
  const oci::Digest found(proof_.finish());
  if (found != index.diff_id) {
    const std::string reason = "the whole tar has diffID " + found.str() +
                               ", but its index says " + index.diff_id.str();
    log::error("a layer's index lied: the layer is quarantined",
               {{"layer", index.layer_digest.str()}, {"why", reason}});
    static_cast<void>(layer_->quarantine(reason));
    return;
  }
  if (Status status = layer_->mark_complete(); !status.ok()) {
    log::warn("a layer is whole but cannot be marked so",
              {{"layer", layer_->id()}, {"why", status.error().message}});
  }
}

void LayerPager::keep_aside(size_t span, ByteView tar) {
  MutexLock lock(mutex_);
  if (aside_.emplace(span, std::make_shared<const Bytes>(tar.begin(), tar.end())).second) {
    aside_order_.push_back(span);
  }
  while (aside_order_.size() > kMaxAside) {
    aside_.erase(aside_order_.front());
    aside_order_.pop_front();
  }
}

Status LayerPager::copy_out(uint64_t data_offset, std::span<uint8_t> out) {
  if (layer_->has_data(data_offset, out.size())) return layer_->read_data(data_offset, out);
  // What is on disk, then over it what had no room there. Bytes of the data
  // file that belong to no span, or to none that is missing, are right already.
  RETURN_IF_ERROR(layer_->read_data(data_offset, out));
  const auto [first, last] = layer_->spans_of(data_offset, out.size());
  for (size_t span = first; span < last; ++span) {
    if (layer_->presence().test(span)) continue;
    std::shared_ptr<const Bytes> tar;
    {
      MutexLock lock(mutex_);
      if (auto it = aside_.find(span); it != aside_.end()) tar = it->second;
    }
    if (tar == nullptr) return Error(Code::unavailable, "the disk is full and the bytes are gone again");
    copy_from_aside(*tar, span, data_offset, out);
  }
  return {};
}

void LayerPager::copy_from_aside(const Bytes& tar, size_t span, uint64_t data_offset,
                                 std::span<uint8_t> out) const {
  const index::LayerIndex& index = *layer_->index();
  const uint64_t begin = index.spans[span].uncompressed_begin;
  const auto [first, last] = index.layout.extents_in_tar(begin, index.span_end(span));
  for (size_t i = first; i < last; ++i) {
    const index::Extent& extent = index.layout.extents()[i];
    // The extent's part in the span and in the wanted data range.
    const uint64_t from =
        std::max({extent.data_offset, data_offset,
                  extent.data_offset + (begin > extent.tar_offset ? begin - extent.tar_offset : 0)});
    const uint64_t to = std::min({extent.data_offset + extent.length, data_offset + out.size(),
                                  extent.data_offset + (index.span_end(span) - extent.tar_offset)});
    if (from >= to) continue;
    const uint64_t tar_at = extent.tar_offset + (from - extent.data_offset) - begin;
    std::copy_n(tar.begin() + static_cast<ptrdiff_t>(tar_at), to - from,
                out.begin() + static_cast<ptrdiff_t>(from - data_offset));
  }
}

void LayerPager::cancel_all() {
  std::vector<std::shared_ptr<Flight>> flights;
  {
    MutexLock lock(mutex_);
    for (const auto& [span, pending] : pending_) flights.push_back(pending.flight);
  }
  for (const auto& flight : flights) flight->cancel();
}

}  // namespace pagein::fetch
