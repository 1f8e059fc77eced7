#include "fetch/flight.h"

#include <algorithm>

#include "base/log.h"
#include "base/sha256.h"

namespace pagein::fetch {
namespace {
// A read that has brought nothing for so long may wait for a host that does not
// answer: who needs it now asks anew, with a deadline of its own.
constexpr std::chrono::seconds kStuck{1};
}  // namespace

Status check_span_sizes(const index::LayerIndex& index) {
  for (size_t i = 0; i < index.spans.size(); ++i) {
    if (index.span_end(i) - index.spans[i].uncompressed_begin <= kMaxSpanBytes) continue;
    return Error(Code::unsupported,
                 "span " + std::to_string(i) + " of layer " + index.layer_digest.str() +
                     " is longer than 64 MiB: convert it with a smaller spacing");
  }
  return {};
}

// Passes one read's callbacks on, with the generation they belong to.
class Flight::Sink : public registry::BlobSink {
 public:
  Sink(std::shared_ptr<Flight> flight, uint64_t generation, Part part)
      : flight_(std::move(flight)), generation_(generation), part_(part) {}
  void on_data(ByteView bytes) override { flight_->on_data(generation_, part_, bytes); }
  void on_done(Status status) override {
    flight_->on_read_done(generation_, part_, std::move(status));
  }

 private:
  const std::shared_ptr<Flight> flight_;
  const uint64_t generation_;
  const Part part_;
};

class Flight::Output : public codec::OutputSink {
 public:
  explicit Output(Flight& flight) : flight_(flight) {}
  Status on_output(ByteView piece) override { return flight_.on_output(piece); }

 private:
  Flight& flight_;
};

Flight::Flight(Context& context, std::shared_ptr<const index::LayerIndex> index,
               std::shared_ptr<Checkpoints> checkpoints, std::vector<LayerOrigin> origins, Run run,
               net::Priority priority, std::shared_ptr<FlightOwner> owner)
    : context_(context),
      index_(std::move(index)),
      checkpoints_(std::move(checkpoints)),
      origins_(std::move(origins)),
      run_(run),
      patience_(context.options().deadline),
      owner_(std::move(owner)),
      priority_(priority),
      next_span_(run.first) {}

Flight::~Flight() = default;

void Flight::start() {
  net::Priority priority;
  {
    MutexLock lock(mutex_);
    started_ = true;
    times_.start = context_.now();
    deadline_ = net::Clock::now() + patience_;
    priority = priority_;
  }
  if (!context_.begin_flight(shared_from_this(), priority)) {
    end(Error(Code::cancelled, "page-in has stopped"));
    return;
  }
  // From here on, the context is touched from where the flight cannot have
  // ended: Context::stop() waits for the end, not for this call.
  issue_reads();
}

void Flight::issue_reads() {
  const LayerOrigin& origin = origins_[attempts_ % origins_.size()];
  const index::Span& first = index_->spans[next_span_];
  const uint64_t begin = codec::first_byte(first.start.compressed_bit);
  const uint64_t end = run_.last < index_->spans.size()
                           ? codec::end_byte(index_->spans[run_.last].start.compressed_bit)
                           : index_->layer_size;
  registry::BlobRead data;
  data.digest = index_->layer_digest;
  data.blob_size = index_->layer_size;
  data.offset = begin;
  data.length = end - begin;
  registry::BlobRead payload;
  payload.digest = origin.index_blob;
  payload.blob_size = origin.index_blob_size;
  payload.offset = index_->head_size + first.payload_offset;
  payload.length = first.payload_size;
  // Bytes that did not verify may be a checkpoint's fault: it comes anew then.
  std::optional<Bytes> known;
  if (attempts_ == 0) known = checkpoints_->find(next_span_);

  const bool payload_known = known || payload.length == 0;

  uint64_t generation;
  {
    MutexLock lock(mutex_);
    if (ended_ || cancelled_) return;
    generation = ++generation_;
    // A host that hangs must leave time for those not asked yet.
    const unsigned left =
        attempts_ < origins_.size() ? static_cast<unsigned>(origins_.size()) - attempts_ : 1;
    const auto now = net::Clock::now();
    data.deadline = payload.deadline = now + std::max(deadline_ - now, {}) / left;
    data.priority = payload.priority = priority_;
    input_.clear();
    payload_.clear();
    payload_ready_ = payload_known;
    if (known) payload_ = std::move(*known);
    data_ended_ = received_ = false;
    failure_.reset();
    reads_.clear();
  }

  const auto self = shared_from_this();
  Reads reads;
  bool current = false;
  bool promoted = false;
  if (!payload_known) {
    reads.emplace_back(
        origin.source,
        origin.source->read(payload, std::make_shared<Sink>(self, generation, Part::payload)));
  }
  reads.emplace_back(origin.source, origin.source->read(data, std::make_shared<Sink>(
                                                                  self, generation, Part::data)));
  {
    MutexLock lock(mutex_);
    if (generation == generation_ && !ended_) {
      reads_ = reads;
      current = true;
      promoted = priority_ != data.priority;  // meanwhile
    }
  }
  if (!current) return cancel_reads(reads);
  if (promoted) promote_reads(reads);
}

void Flight::promote() {
  Reads reads;
  bool stuck = false;
  {
    MutexLock lock(mutex_);
    if (ended_ || priority_ == net::Priority::demand) return;
    priority_ = net::Priority::demand;
    if (!started_) return;
    // A low worker that has it must not keep its reader waiting.
    if (running_ != 0) WorkerPool::boost(running_);
    else if (scheduled_) post_work();
    stuck = !received_ && !scheduled_ && context_.now() - times_.start > kStuck;
    if (stuck) {
      deadline_ = net::Clock::now() + patience_;
      reads = abandon_reads();
    } else {
      reads = reads_;
    }
  }
  if (!stuck) return promote_reads(reads);
  cancel_reads(reads);
  issue_reads();
}

void Flight::cancel() {
  Reads old;
  {
    MutexLock lock(mutex_);
    if (ended_ || cancelled_) return;
    cancelled_ = true;  // no more reads are issued, whoever is about to
    old = abandon_reads();
    schedule();
  }
  cancel_reads(old);
}

// Their callbacks are ignored from here on. A source may call back from
// inside cancel(), so that happens without the lock.
Flight::Reads Flight::abandon_reads() {
  ++generation_;
  return std::exchange(reads_, {});
}

void Flight::cancel_reads(const Reads& reads) {
  for (const auto& [source, id] : reads) source->cancel(id);
}

void Flight::promote_reads(const Reads& reads) {
  for (const auto& [source, id] : reads) source->promote(id);
}

void Flight::on_data(uint64_t generation, Part part, ByteView bytes) {
  MutexLock lock(mutex_);
  if (generation != generation_ || ended_) return;
  context_.counters().bytes[static_cast<size_t>(priority_)] += bytes.size();
  if (!std::exchange(received_, true) && times_.first_byte == net::Clock::time_point()) {
    times_.first_byte = net::Clock::now();
  }
  if (part == Part::payload) {
    payload_.insert(payload_.end(), bytes.begin(), bytes.end());
    return;
  }
  input_.emplace_back(bytes.begin(), bytes.end());
  schedule();
}

void Flight::on_read_done(uint64_t generation, Part part, Status status) {
  MutexLock lock(mutex_);
  if (generation != generation_ || ended_) return;
  if (!status.ok()) {
    failure_ = std::move(status).error();
  } else if (part == Part::payload) {
    payload_ready_ = true;
  } else {
    data_ended_ = true;
  }
  schedule();
}

void Flight::schedule() {
  if (scheduled_ || ended_) return;
  scheduled_ = true;
  post_work();
}

void Flight::post_work() {
  context_.pool(priority_).post([self = shared_from_this()] { self->work(); });
}

void Flight::work() {
  {
    MutexLock lock(mutex_);
    // After promote() two workers may have been asked; the second finds the
    // work being done, or done.
    if (running_ != 0 || !scheduled_) return;
    running_ = WorkerPool::current_thread();
  }
  while (step()) {
  }
}

// One piece of work; false where there is none until the next callback.
bool Flight::step() {
  std::optional<Error> failure;
  std::deque<Bytes> input;
  Bytes payload;
  bool ended;
  bool cancelled;
  {
    MutexLock lock(mutex_);
    if (ended_) {
      running_ = 0;
      return false;
    }
    cancelled = cancelled_;
    if (cancelled) {
      input_.clear();
    } else if (failure_) {
      failure = std::exchange(failure_, std::nullopt);
    } else {
      if (!payload_ready_ || (input_.empty() && !data_ended_)) {
        scheduled_ = false;
        running_ = 0;
        return false;
      }
      input.swap(input_);
      if (!decoding_) payload.swap(payload_);
    }
    ended = data_ended_;
    if (times_.first_work == net::Clock::time_point()) times_.first_work = net::Clock::now();
  }
  if (cancelled) {
    end(Error(Code::cancelled, "page-in called off"));
    return false;
  }
  if (failure) {
    retry_or_end(std::move(*failure));
    return true;
  }
  if (!decoding_) {
    if (decoder_ == nullptr) decoder_ = context_.take_decoder();
    const index::Span& first = index_->spans[next_span_];
    const uint64_t length = index_->span_end(run_.last - 1) - first.uncompressed_begin;
    tar_.clear();
    decoding_ = true;
    Status started =
        decoder_->start({first.start.kind, first.start.compressed_bit, payload}, length);
    if (!started.ok()) {
      retry_or_end(std::move(started).error());
      return true;
    }
  }
  for (const Bytes& chunk : input) {
    if (Status status = decode(chunk); !status.ok()) {
      retry_or_end(std::move(status).error());
      return true;
    }
  }
  if (next_span_ == run_.last) {
    end({});
    return false;
  }
  if (ended) {
    retry_or_end(Error(Code::corrupt_input, "the compressed bytes end before the span does"));
  }
  return true;
}

Status Flight::decode(const Bytes& chunk) {
  Output output(*this);
  return decoder_->feed(chunk, output);
}

Status Flight::on_output(ByteView piece) {
  while (!piece.empty()) {
    const index::Span& span = index_->spans[next_span_];
    const uint64_t length = index_->span_end(next_span_) - span.uncompressed_begin;
    if (tar_.empty()) tar_.reserve(length);
    const size_t take = std::min<uint64_t>(piece.size(), length - tar_.size());
    tar_.insert(tar_.end(), piece.begin(), piece.begin() + static_cast<ptrdiff_t>(take));
    piece = piece.subspan(take);
    if (tar_.size() == length) RETURN_IF_ERROR(finish_span());
  }
  return {};
}

Status Flight::finish_span() {
  if (sha256(tar_) != index_->spans[next_span_].digest) {
    return Error(Code::corrupt_input, "decoded bytes do not have the digest that the index gives");
  }
  {
    MutexLock lock(mutex_);
    context_.counters().spans[static_cast<size_t>(priority_)]++;
  }
  owner_->on_span(*this, next_span_, tar_);
  if (next_span_ == run_.first) {
    MutexLock lock(mutex_);
    times_.first_span = net::Clock::now();
  }
  tar_.clear();
  ++next_span_;
  return {};
}

bool Flight::may_retry(const Error& error) const {
  // Elsewhere it may be there, may be allowed, may answer in time.
  if (attempts_ + 1 < origins_.size()) return error.code != Code::cancelled;
  return error.code == Code::corrupt_input && attempts_ < context_.options().verify_retries;
}

void Flight::retry_or_end(Error error) {
  const bool wrong_bytes = error.code == Code::corrupt_input;
  if (wrong_bytes) {
    context_.counters().verify_failures++;
    checkpoints_->distrust();
  }
  decoding_ = false;
  if (!may_retry(error)) {
    end(error.with_context(describe()));
    return;
  }
  log::warn("a part of a layer could not be fetched and is asked for again",
            {{"layer", index_->layer_digest.str()},
             {"from", origins_[attempts_ % origins_.size()].name},
             {"span", next_span_},
             {"why", error.message}});
  ++attempts_;
  Reads old;
  {
    MutexLock lock(mutex_);
    old = abandon_reads();
  }
  cancel_reads(old);
  if (wrong_bytes) {
    for (const auto& [source, id] : old) source->distrust(id);
  }
  issue_reads();
}

void Flight::end(Status status) {
  std::shared_ptr<FlightOwner> owner;
  Reads old;
  net::Priority priority;
  Milestones times;
  {
    MutexLock lock(mutex_);
    if (ended_) return;
    ended_ = true;
    scheduled_ = false;
    running_ = 0;
    old = abandon_reads();
    owner = std::move(owner_);
    priority = priority_;
    times = times_;
  }
  cancel_reads(old);
  if (log::enabled(log::Level::debug)) log_times(priority, times, status.ok());
  context_.give_back(std::move(decoder_));
  if (owner) owner->on_flight_end(*this, std::move(status));
  owner.reset();
  context_.end_flight(*this);  // last: the context may go now
}

// Where the time of a page-in went, in microseconds from its start.
void Flight::log_times(net::Priority priority, const Milestones& times, bool ok) const {
  const auto since_start = [&](net::Clock::time_point at) -> int64_t {
    if (at == net::Clock::time_point()) return -1;
    return std::chrono::duration_cast<std::chrono::microseconds>(at - times.start).count();
  };
  log::debug("flight", {{"layer", index_->layer_digest.hex().substr(0, 12)},
                        {"class", static_cast<int>(priority)},
                        {"first", run_.first},
                        {"spans", run_.last - run_.first},
                        {"first_byte_us", since_start(times.first_byte)},
                        {"first_work_us", since_start(times.first_work)},
                        {"first_span_us", since_start(times.first_span)},
                        {"end_us", since_start(net::Clock::now())},
                        {"ok", ok}});
}

std::string Flight::describe() const {
  return "span " + std::to_string(next_span_) + " of layer " + index_->layer_digest.str() +
         " from " + origins_[attempts_ % origins_.size()].name;
}

}  // namespace pagein::fetch
