#include "fetch/layer_pager.h"

#include <algorithm>
#include <set>

#include "base/log.h"
#include "fetch/layer_waiter.h"

namespace pagein::fetch {
namespace {

constexpr size_t kStreams = 8;
// Spans held in memory while the disk is full, per layer.
constexpr size_t kMaxAside = 64;
constexpr uint64_t kMaxAsideBytes = 64 << 20;  // or a single one
// A measurement gone wrong must not make every miss a big download.
constexpr uint64_t kMaxRoundTripBytes = 2 << 20;

}  // namespace

LayerPager::LayerPager(Context& context, std::shared_ptr<store::Layer> layer,
                       std::vector<LayerOrigin> origins)
    : context_(context),
      layer_(std::move(layer)),
      checkpoints_(std::make_shared<Checkpoints>(layer_->index(), context.checkpoint_budget())),
      origins_(std::move(origins)),
      streams_(kStreams) {}

LayerPager::~LayerPager() { checkpoints_->drop(); }

std::shared_ptr<LayerPager> LayerPager::make(Context& context, std::shared_ptr<store::Layer> layer,
                                             std::vector<LayerOrigin> origins) {
  return std::shared_ptr<LayerPager>(new LayerPager(context, std::move(layer), std::move(origins)));
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
  auto flight = std::make_shared<Flight>(context_, layer_->index(), checkpoints_, origins_, run,
                                         priority, shared_from_this());
  for (size_t span = run.first; span < run.last; ++span) {
    Pending& pending = pending_[span];
    pending.flight = flight;
    pending.delivery.reset();
  }
  return flight;
}

// What the link delivers in one round trip costs no time: at least that much is
// fetched, and a reader that goes on where it got data last is given twice as
// much as then.
Run LayerPager::read_ahead(Run run, uint64_t least_bytes) {
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
  const uint64_t begin = compressed_begin(run.first);
  while (run.last < index.spans.size() && can_go_on(run.last) &&
         (run.last - run.first < length || compressed_begin(run.last) - begin < least_bytes) &&
         index.span_end(run.last) <= limit && is_for_demand(run.last)) {
    ++run.last;
  }
  *stream = {run.last, run.last - run.first};
  return run;
}

// Whether a run may have it with the span before.
bool LayerPager::can_go_on(size_t span) const {
  return codec::can_go_on(layer_->index()->spans[span].start.kind);
}

uint64_t LayerPager::compressed_begin(size_t span) const {
  return layer_->index()->spans[span].start.compressed_bit / 8;
}

// Of the place that is asked first.
uint64_t LayerPager::round_trip_bytes() const {
  std::shared_ptr<registry::BlobSource> source;
  {
    MutexLock lock(mutex_);
    if (!origins_.empty()) source = origins_.front().source;
  }
  if (source == nullptr) return 0;
  return std::min(source->link().bytes_per_round_trip(), kMaxRoundTripBytes);
}

void LayerPager::want(uint64_t data_offset, uint64_t length, net::Priority priority,
                      Completion done) {
  if (layer_->quarantined()) {
    done(Error(Code::corrupt_input, "layer is quarantined: " + layer_->quarantine_reason()));
    return;
  }
  const uint64_t least_bytes = std::max(round_trip_bytes(), context_.options().least_fetch);
  const auto [first, last] = layer_->spans_of(data_offset, length);
  auto waiter = std::make_shared<Waiter>();
  waiter->done = std::move(done);
  Flights fresh;
  Flights joined;
  std::vector<std::pair<size_t, std::shared_ptr<Delivery>>> awaited;
  bool overtook = false;
  Status problem;
  {
    MutexLock lock(mutex_);
    for (size_t span = first; span < last && problem.ok();) {
      if (is_here(span)) {
        ++span;
        continue;
      }
      const bool demand = priority == net::Priority::demand;
      const auto it = pending_.find(span);
      if (it != pending_.end() && !(demand && is_for_demand(span))) {
        const Pending& pending = it->second;
        waiter->remaining++;
        it->second.waiters.push_back(waiter);
        if (pending.flight == nullptr) awaited.emplace_back(span, pending.delivery);
        else if (joined.empty() || joined.back() != pending.flight)
          joined.push_back(pending.flight);
        ++span;
        continue;
      }
      if (origins_.empty()) {
        problem =
            Error(Code::unavailable, "layer " + layer_->index()->layer_digest.str() +
                                         " is not complete here and no registry is known for it");
        break;
      }
      Run run{span, span + 1};
      overtook |= it != pending_.end();
      while (
          run.last < last && can_go_on(run.last) &&
          (demand ? is_for_demand(run.last) : !is_here(run.last) && !pending_.contains(run.last)))
        ++run.last;
      const size_t wanted_end = run.last;
      if (demand) run = read_ahead(run, least_bytes);
      fresh.push_back(make_flight(run, priority));
      for (; span < wanted_end; ++span) {
        waiter->remaining++;
        pending_[span].waiters.push_back(waiter);
      }
    }
  }
  Counters& counters = context_.counters();
  if (!fresh.empty() || !joined.empty() || !awaited.empty()) counters.reads++;
  if (!joined.empty() || !awaited.empty()) counters.joined++;
  if (overtook) counters.startup_overtakes++;
  if (!awaited.empty()) counters.startup_waits++;
  if (!fresh.empty() && brought_.load() != nullptr) counters.startup_misses++;
  if (priority == net::Priority::demand) {
    for (const auto& flight : joined) flight->promote();
  }
  for (const auto& [span, delivery] : awaited) delivery->on_awaited(*this, span);
  start(fresh);
  waiter->finish(problem);
}

void LayerPager::start(const Flights& flights) {
  for (const auto& flight : flights) flight->start();
  if (!flights.empty()) load_checkpoints();
}

void LayerPager::settle(std::vector<std::shared_ptr<Waiter>>& waiters, const Status& status) {
  for (const auto& waiter : waiters) waiter->finish(status);
}

// Writes and claims a verified span.
Status LayerPager::keep(size_t span, ByteView tar) {
  if (Status written = layer_->write_span(span, tar); !written.ok()) {
    context_.counters().store_full++;
    return written;
  }
  // In order, the proof of the diffID costs no read.
  if (proof_mutex_.try_lock()) {
    if (proof_next_ == span) {
      proof_.update(tar);
      ++proof_next_;
    }
    proof_mutex_.unlock();
  }
  return {};
}

void LayerPager::on_span(const Flight& flight, size_t span, ByteView tar) {
  Status written = keep(span, tar);
  std::vector<std::shared_ptr<Waiter>> waiters;
  {
    MutexLock lock(mutex_);
    if (auto it = pending_.find(span); it != pending_.end() && it->second.flight.get() == &flight) {
      waiters = std::move(it->second.waiters);
      pending_.erase(it);
    }
    const auto background = background_.find(&flight);
    if (written.ok()) {
      forget_aside(span);
      if (background != background_.end() && background->second.startup && waiters.empty())
        mark_brought(span);
    } else if (background == background_.end() || !waiters.empty()) {
      // Readers come first: they get the bytes from memory.
      keep_aside(span, tar);
    }
    if (!written.ok() && background != background_.end()) {
      background->second.not_kept = std::move(written).error();
    }
  }
  settle(waiters, {});
}

void LayerPager::on_flight_end(const Flight& flight, Status status) {
  std::vector<std::shared_ptr<Waiter>> waiters;
  std::optional<BackgroundRun> background;
  {
    MutexLock lock(mutex_);
    for (size_t span = flight.run().first; span < flight.run().last; ++span) {
      auto it = pending_.find(span);
      if (it == pending_.end() || it->second.flight.get() != &flight) continue;
      std::move(it->second.waiters.begin(), it->second.waiters.end(), std::back_inserter(waiters));
      pending_.erase(it);
    }
    if (auto it = background_.find(&flight); it != background_.end()) {
      background = std::move(it->second);
      background_.erase(it);
    }
  }
  settle(waiters, status);
  if (!background) return;
  if (status.ok() && background->not_kept) status = std::move(*background->not_kept);
  background->done(std::move(status));
}

bool LayerPager::is_free(size_t span) const {
  return !layer_->presence().test(span) && !pending_.contains(span);
}

size_t LayerPager::first_free(size_t span) const {
  const size_t count = layer_->index()->spans.size();
  while ((span = layer_->presence().first_missing(span, count)) < count && !is_free(span)) ++span;
  return span;
}

// From where the last run ended; from the start again once nothing is left
// behind that: flights fail, and claims are taken back.
std::optional<Run> LayerPager::next_background_run(uint64_t bytes) {
  const size_t count = layer_->index()->spans.size();
  size_t first = first_free(background_cursor_);
  if (first == count) first = first_free(0);
  if (first == count) return std::nullopt;
  Run run{first, first + 1};
  while (run.last < count && can_go_on(run.last) && is_free(run.last) &&
         compressed_begin(run.last) - compressed_begin(first) < bytes) {
    ++run.last;
  }
  background_cursor_ = run.last;
  return run;
}

bool LayerPager::start_background_run(Completion done) {
  // A run's first round trip brings nothing: it has to be a small part of it.
  const uint64_t bytes = std::max(context_.options().background_run, 4 * round_trip_bytes());
  std::shared_ptr<Flight> flight;
  {
    MutexLock lock(mutex_);
    if (origins_.empty() || settled() || context_.stopping()) return false;
    const std::optional<Run> run = next_background_run(bytes);
    if (!run) return false;
    flight = make_flight(*run, net::Priority::background);
    background_[flight.get()].done = std::move(done);
  }
  start({std::move(flight)});
  return true;
}

void LayerPager::load_checkpoints() {
  std::optional<LayerOrigin> origin;
  {
    MutexLock lock(mutex_);
    if (!origins_.empty()) origin = origins_.front();
  }
  if (!origin || context_.stopping()) return;
  checkpoints_->load(*origin, net::Clock::now() + context_.options().deadline);
}

bool LayerPager::settled() const { return layer_->complete() || layer_->quarantined(); }

void LayerPager::advance_proof() {
  proof_wanted_.store(true);
  while (proof_wanted_.load()) {
    if (!proof_mutex_.try_lock()) return;
    proof_wanted_.store(false);
    prove();
    proof_mutex_.unlock();
  }
}

// Whether all of the tar has been hashed.
bool LayerPager::hash_present_spans() {
  const index::LayerIndex& index = *layer_->index();
  Bytes tar;
  for (; proof_next_ < index.spans.size(); ++proof_next_) {
    if (!layer_->presence().test(proof_next_)) return false;
    tar.resize(index.span_end(proof_next_) - index.spans[proof_next_].uncompressed_begin);
    if (Status status = layer_->read_span(proof_next_, tar); !status.ok()) {
      log::warn("cannot read back a span of a layer",
                {{"layer", layer_->id()}, {"why", status.error().message}});
      return false;
    }
    if (sha256(tar) != index.spans[proof_next_].digest) {
      log::warn("a span of a layer changed on disk and will be fetched again",
                {{"layer", layer_->id()}, {"span", proof_next_}});
      layer_->drop_span(proof_next_);
      return false;
    }
    proof_.update(tar);
  }
  return true;
}

void LayerPager::prove() {
  if (settled() || !hash_present_spans()) return;
  if (!proof_result_) proof_result_ = oci::Digest(proof_.finish());
  const index::LayerIndex& index = *layer_->index();
  if (*proof_result_ != index.diff_id) {
    const std::string reason = "the whole tar has diffID " + proof_result_->str() +
                               ", but its index says " + index.diff_id.str();
    log::error("a layer's index lied: the layer is quarantined",
               {{"layer", index.layer_digest.str()}, {"why", reason}});
    static_cast<void>(layer_->quarantine(reason));
    return;
  }
  const Status marked = layer_->mark_complete();
  if (marked.ok()) checkpoints_->drop();
  // failed_precondition: claims were taken back; their spans come again.
  if (marked.ok() || marked.error().code == Code::failed_precondition) return;
  log::warn("a layer is whole but cannot be marked so",
            {{"layer", layer_->id()}, {"why", marked.error().message}});
}

void LayerPager::keep_aside(size_t span, ByteView tar) {
  if (aside_.emplace(span, std::make_shared<const Bytes>(tar.begin(), tar.end())).second) {
    aside_order_.push_back(span);
    aside_bytes_ += tar.size();
  }
  while (aside_order_.size() > 1 &&
         (aside_order_.size() > kMaxAside || aside_bytes_ > kMaxAsideBytes)) {
    forget_aside(aside_order_.front());
  }
}

void LayerPager::forget_aside(size_t span) {
  const auto it = aside_.find(span);
  if (it == aside_.end()) return;
  aside_bytes_ -= it->second->size();
  aside_.erase(it);
  std::erase(aside_order_, span);
}

Status LayerPager::copy_out(uint64_t data_offset, std::span<uint8_t> out) {
  if (layer_->has_data(data_offset, out.size())) return layer_->read_data(data_offset, out);
  // What the disk has no room for, noted before the disk is read: a span that
  // is written meanwhile would be read too early.
  std::vector<std::pair<size_t, std::shared_ptr<const Bytes>>> from_memory;
  const auto [first, last] = layer_->spans_of(data_offset, out.size());
  for (size_t span = first; span < last; ++span) {
    MutexLock lock(mutex_);
    if (layer_->presence().test(span)) continue;
    const auto it = aside_.find(span);
    if (it == aside_.end()) {
      return Error(Code::unavailable, "the disk could not keep the bytes and they are gone again");
    }
    from_memory.emplace_back(span, it->second);
  }
  // Bytes of the data file that belong to no span are right already.
  RETURN_IF_ERROR(layer_->read_data(data_offset, out));
  for (const auto& [span, tar] : from_memory) copy_from_aside(*tar, span, data_offset, out);
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
    const uint64_t from = std::max(
        {extent.data_offset, data_offset,
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
  checkpoints_->drop();
  std::set<std::shared_ptr<Flight>> flights;
  std::vector<std::shared_ptr<Waiter>> waiters;
  {
    MutexLock lock(mutex_);
    for (auto it = pending_.begin(); it != pending_.end();) {
      Pending& pending = it->second;
      if (pending.flight != nullptr) {
        flights.insert(pending.flight);
        ++it;
        continue;
      }
      std::move(pending.waiters.begin(), pending.waiters.end(), std::back_inserter(waiters));
      it = pending_.erase(it);
    }
  }
  for (const auto& flight : flights) flight->cancel();
  settle(waiters, Error(Code::cancelled, "page-in called off"));
}

void LayerPager::cancel_unwanted() {
  std::set<std::shared_ptr<Flight>> flights;
  {
    MutexLock lock(mutex_);
    for (const auto& [span, pending] : pending_) {
      if (pending.flight != nullptr) flights.insert(pending.flight);
    }
    for (const auto& [span, pending] : pending_) {
      if (!pending.waiters.empty()) flights.erase(pending.flight);
    }
  }
  for (const auto& flight : flights) flight->cancel();
}

}  // namespace pagein::fetch
