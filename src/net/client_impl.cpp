#include "net/client_impl.h"

#include <algorithm>
#include <mutex>

#include "base/guard.h"

namespace pagein::net {

namespace {
constexpr size_t kMaxLinks = 1024;  // origins remembered
constexpr double kSmoothing = 0.25;

size_t index(Priority priority) { return static_cast<size_t>(priority); }
}  // namespace

Client::Impl::Impl(ClientOptions options) : options_(std::move(options)), admission_(options_) {}

Client::Impl::~Impl() {
  entries_.clear();
  if (multi_ != nullptr) curl_multi_cleanup(multi_);
  if (share_ != nullptr) curl_share_cleanup(share_);
}

Status Client::Impl::start_thread(const std::shared_ptr<Impl>& self) {
  static std::once_flag once;
  static CURLcode initialised = CURLE_FAILED_INIT;
  std::call_once(once, [] { initialised = curl_global_init(CURL_GLOBAL_DEFAULT); });
  if (initialised != CURLE_OK) return Error(Code::internal, "libcurl does not initialise");
  self->multi_ = curl_multi_init();
  self->share_ = curl_share_init();
  if (self->multi_ == nullptr || self->share_ == nullptr) {
    return Error(Code::exhausted, "libcurl gives no multi handle");
  }
  // One thread uses it, so no lock functions.
  curl_share_setopt(self->share_, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
  curl_multi_setopt(self->multi_, CURLMOPT_MAXCONNECTS,
                    static_cast<long>(self->options_.max_connections));
  try {
    self->thread_ = std::thread(&Impl::thread_main, self);
  } catch (const std::system_error& e) {
    return errno_error(e.code().value(), "start the net thread");
  }
  return {};
}

void Client::Impl::thread_main(std::shared_ptr<Impl> self) {
  self->thread_id_ = std::this_thread::get_id();
  guard("net thread", [&] { self->loop(); });
}

void Client::Impl::stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  curl_multi_wakeup(multi_);
  if (!thread_.joinable()) return;
  if (on_net_thread()) {
    thread_.detach();  // it owns a reference to this
  } else {
    thread_.join();
  }
}

void Client::Impl::post(std::function<void()> command) {
  bool wake = false;
  {
    MutexLock lock(mutex_);
    wake = commands_.empty();
    commands_.push_back(std::move(command));
  }
  if (wake) curl_multi_wakeup(multi_);
}

bool Client::Impl::run_commands() {
  std::vector<std::function<void()>> commands;
  {
    MutexLock lock(mutex_);
    commands.swap(commands_);
  }
  for (std::function<void()>& command : commands) {
    guard("net command", command);
    command = nullptr;  // what it holds may be the last reference to something
  }
  return !commands.empty();
}

void Client::Impl::loop() {
  for (;;) {
    bool worked = run_commands();
    {
      MutexLock lock(mutex_);
      if (stopping_) break;
    }
    run_timers();
    reap_cancelled();
    start_admitted();
    update_yield();
    int running = 0;
    curl_multi_perform(multi_, &running);
    // Where a place has become free, look at the queue before polling.
    worked |= collect_ended();
    worked |= std::exchange(place_freed_, false);
    counters_.active = admission_.running();
    counters_.queued = admission_.queued();
    if (!worked) curl_multi_poll(multi_, nullptr, 0, poll_timeout_ms(), nullptr);
  }
  cancel_all();
}

// Handlers may start new requests while they are told, so until nothing is left.
void Client::Impl::cancel_all() {
  while (run_commands() || !entries_.empty()) {
    while (!entries_.empty()) {
      finish(entries_.begin()->first, Error(Code::cancelled, "the HTTP client is shutting down"));
    }
  }
  timers_.clear();
}

int Client::Impl::poll_timeout_ms() const {
  if (!cancelled_.empty()) return 0;
  if (timers_.empty()) return 60'000;
  const auto wait =
      std::chrono::ceil<std::chrono::milliseconds>(timers_.begin()->first - Clock::now());
  return static_cast<int>(std::clamp<int64_t>(wait.count(), 0, 60'000));
}

Client::Impl::Timers::iterator Client::Impl::add_timer(Clock::time_point when,
                                                       std::function<void()> task) {
  return timers_.emplace(when, std::move(task));
}

void Client::Impl::run_timers() {
  const Clock::time_point now = Clock::now();
  while (!timers_.empty() && timers_.begin()->first <= now) {
    auto timer = timers_.extract(timers_.begin());
    guard("net timer", timer.mapped());
  }
}

void Client::Impl::begin(std::unique_ptr<Transfer> transfer) {
  const RequestId id = transfer->id();
  Entry& entry = entries_[id];
  entry.transfer = std::move(transfer);
  if (Status status = entry.transfer->prepare(); !status.ok()) {
    // Not queued, so finish() has nothing to undo in admission_.
    auto handler = entry.transfer->handler();
    entries_.erase(id);
    ++counters_.failures;
    guard("http response handler", [&] { handler->on_done(std::move(status)); });
    return;
  }
  const Request& request = entry.transfer->request();
  if (request.deadline != Clock::time_point::max()) {
    entry.has_deadline = true;
    entry.deadline = add_timer(request.deadline, [this, id] {
      const auto it = entries_.find(id);
      if (it == entries_.end()) return;
      it->second.has_deadline = false;
      finish(id, Error(Code::timeout, it->second.transfer->doing() + ": the deadline passed"));
    });
  }
  entry.transfer->hold(class_holds_[index(request.priority)]);
  admission_.enqueue(id, entry.transfer->origin(), request.priority);
}

void Client::Impl::start_admitted() {
  while (const std::optional<RequestId> id = admission_.take_next()) {
    start_transfer(entries_.at(*id));
  }
}

void Client::Impl::start_transfer(Entry& entry) {
  Transfer& transfer = *entry.transfer;
  entry.running = true;
  if (transfer.paused()) park(entry);
  ++counters_.requests;
  Result<CURL*> easy = transfer.open(this, options_, share_);
  if (!easy.ok()) return finish(transfer.id(), std::move(easy).error());
  if (const CURLMcode code = curl_multi_add_handle(multi_, *easy); code != CURLM_OK) {
    finish(transfer.id(),
           Error(Code::internal, transfer.doing() + ": libcurl: " + curl_multi_strerror(code)));
  }
}

bool Client::Impl::collect_ended() {
  int left = 0;
  bool any = false;
  while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    any = true;
    char* pointer = nullptr;
    curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &pointer);
    const CURLcode code = message->data.result;
    const auto it = entries_.find(reinterpret_cast<Transfer*>(pointer)->id());
    if (it != entries_.end()) hop_ended(it->second, code);
  }
  return any;
}

void Client::Impl::hop_ended(Entry& entry, CURLcode code) {
  Transfer& transfer = *entry.transfer;
  const RequestId id = transfer.id();
  measure(transfer);
  const std::string origin = transfer.origin();
  Transfer::HopResult result = transfer.hop_ended(code);
  if (result.outcome == Transfer::Outcome::done) {
    // finish() accounts for the origin that the hop ran at: the same.
    return finish(id, std::move(result.status));
  }
  curl_multi_remove_handle(multi_, transfer.easy());
  transfer.close();
  entry.running = false;
  if (!std::exchange(entry.parked, false)) admission_.finished(origin, transfer.priority());
  admission_.enqueue_front(id, transfer.origin(), transfer.priority());
  start_admitted();
}

void Client::Impl::stop_running(Entry& entry) {
  Transfer& transfer = *entry.transfer;
  unpark(entry);
  if (entry.running) {
    if (transfer.easy() != nullptr) curl_multi_remove_handle(multi_, transfer.easy());
    admission_.finished(transfer.origin(), transfer.priority());
  } else {
    admission_.remove_queued(transfer.id(), transfer.origin(), transfer.priority());
  }
  if (entry.has_deadline) timers_.erase(entry.deadline);
}

void Client::Impl::finish(RequestId id, Status status) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  stop_running(it->second);
  const std::unique_ptr<Transfer> transfer = std::move(it->second.transfer);
  entries_.erase(it);
  if (!status.ok() && status.error().code != Code::cancelled) ++counters_.failures;
  guard("http response handler", [&] { transfer->handler()->on_done(std::move(status)); });
}

void Client::Impl::cancel(RequestId id) {
  const auto it = entries_.find(id);
  if (it == entries_.end() || it->second.transfer->cancelled()) return;
  it->second.transfer->cancel();
  cancelled_.push_back(id);
}

void Client::Impl::reap_cancelled() {
  std::vector<RequestId> ids;
  ids.swap(cancelled_);
  for (const RequestId id : ids) {
    const auto it = entries_.find(id);
    if (it == entries_.end()) continue;
    finish(id, Error(Code::cancelled, it->second.transfer->doing() + ": cancelled"));
  }
}

void Client::Impl::park(Entry& entry) {
  if (!entry.running || std::exchange(entry.parked, true)) return;
  place_freed_ = true;
  admission_.finished(entry.transfer->origin(), entry.transfer->priority());
}

void Client::Impl::unpark(Entry& entry) {
  if (!std::exchange(entry.parked, false)) return;
  admission_.resumed(entry.transfer->origin(), entry.transfer->priority());
}

void Client::Impl::pause(RequestId id) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  it->second.transfer->hold(kHoldUser);
  park(it->second);
}

void Client::Impl::resume(RequestId id) {
  const auto it = entries_.find(id);
  if (it == entries_.end()) return;
  unpark(it->second);
  it->second.transfer->release(kHoldUser);
}

void Client::Impl::promote(RequestId id) {
  const auto it = entries_.find(id);
  if (it == entries_.end() || it->second.transfer->priority() == Priority::demand) return;
  Entry& entry = it->second;
  Transfer& transfer = *entry.transfer;
  if (!entry.running) {
    admission_.remove_queued(id, transfer.origin(), transfer.priority());
    admission_.enqueue(id, transfer.origin(), Priority::demand);
  } else if (!entry.parked) {
    admission_.finished(transfer.origin(), transfer.priority());
    admission_.resumed(transfer.origin(), Priority::demand);
  }
  transfer.promote();
  transfer.release(kHoldClass | kHoldBandwidth | kHoldYield);
}

void Client::Impl::request_begins(const Transfer& transfer, int local_port, int peer_port) {
  if (!options_.background_yields) return;
  const int fd = windows_.find(local_port, peer_port);
  if (fd < 0) return;
  double rate;
  {
    MutexLock lock(links_mutex_);
    rate = link_of(transfer.origin()).meter.best();
  }
  // Every class, since they use the same connections, one after the other, and
  // a window that was announced cannot be taken back.
  // Demand often has the link alone: a share of it would never grow.
  const size_t transfers =
      transfer.priority() == Priority::background ? options_.max_background_per_origin : 1;
  if (rate > 0) {
    ReceiveWindows::limit(fd,
                          receive_window(rate, ReceiveWindows::least_round_trip(fd), transfers));
  }
}

void Client::Impl::body_ready(RequestId id) {
  if (const auto it = entries_.find(id); it != entries_.end()) it->second.transfer->body_ready();
}

void Client::Impl::set_class_limit(Priority priority, size_t transfers) {
  admission_.set_limit(priority, transfers);
}

void Client::Impl::set_class_paused(Priority priority, unsigned hold_bits) {
  admission_.set_paused(priority, hold_bits != 0);
  class_holds_[index(priority)] = hold_bits;
  for (auto& [id, entry] : entries_) {
    if (entry.transfer->priority() != priority) continue;
    if (hold_bits != 0) {
      entry.transfer->hold(kHoldClass);
    } else {
      entry.transfer->release(kHoldClass);
    }
  }
}

void Client::Impl::set_class_bandwidth(Priority priority, uint64_t bytes_per_second) {
  rates_[index(priority)].set_rate(bytes_per_second, Clock::now());
}

void Client::Impl::update_yield() {
  if (!options_.background_yields) return;
  for (auto& [id, entry] : entries_) {
    if (entry.transfer->priority() != Priority::background || !entry.running) continue;
    if (admission_.demand_present(entry.transfer->origin())) {
      entry.transfer->hold(kHoldYield);
    } else {
      entry.transfer->release(kHoldYield);
    }
  }
}

unsigned Client::Impl::admit_data(const Transfer& transfer, size_t bytes) {
  const size_t i = index(transfer.priority());
  const Clock::time_point now = Clock::now();
  if (!rates_[i].take(bytes, now)) {
    if (!rate_timer_[i]) {
      rate_timer_[i] = true;
      add_timer(now + rates_[i].wait(now), [this, i] {
        rate_timer_[i] = false;
        for (auto& [id, entry] : entries_) {
          if (index(entry.transfer->priority()) == i) entry.transfer->release(kHoldBandwidth);
        }
      });
    }
    return kHoldBandwidth;
  }
  counters_.received += bytes;
  counters_.by_priority[i] += bytes;
  MutexLock lock(links_mutex_);
  link_of(transfer.origin()).meter.add(bytes, now);
  return 0;
}

void Client::Impl::count_sent(size_t bytes) { counters_.sent += bytes; }

void Client::Impl::measure(const Transfer& transfer) {
  CURL* easy = transfer.easy();
  long connects = 0;
  curl_off_t ready = 0, first = 0, total = 0, size = 0;
  curl_easy_getinfo(easy, CURLINFO_NUM_CONNECTS, &connects);
  curl_easy_getinfo(easy, CURLINFO_PRETRANSFER_TIME_T, &ready);
  curl_easy_getinfo(easy, CURLINFO_STARTTRANSFER_TIME_T, &first);
  curl_easy_getinfo(easy, CURLINFO_TOTAL_TIME_T, &total);
  curl_easy_getinfo(easy, CURLINFO_SIZE_DOWNLOAD_T, &size);
  counters_.connects += static_cast<uint64_t>(std::max(connects, 0L));
  // What carried a body up waited for more than the link.
  if (first <= ready || transfer.request().upload != nullptr || !transfer.request().body.empty()) {
    return;
  }
  MutexLock lock(links_mutex_);
  Link& of_origin = link_of(transfer.origin());
  LinkEstimate& link = of_origin.estimate;
  if (transfer.priority() != Priority::background) {
    of_origin.meter.add_first_byte(std::chrono::microseconds(first - ready), Clock::now());
    const double wait = static_cast<double>(first - ready);
    const double old = static_cast<double>(link.first_byte.count());
    link.first_byte = std::chrono::microseconds(
        static_cast<int64_t>(old == 0 ? wait : old + kSmoothing * (wait - old)));
  }
  const bool large = static_cast<uint64_t>(size) >= options_.min_throughput_sample;
  if (large && total > first && !transfer.was_held()) {
    const double rate = static_cast<double>(size) * 1e6 / static_cast<double>(total - first);
    double& mean = link.bytes_per_second;
    mean = mean == 0 ? rate : mean + kSmoothing * (rate - mean);
  }
}

Stats Client::Impl::stats() const {
  Stats out;
  out.requests = counters_.requests;
  out.failures = counters_.failures;
  out.connects = counters_.connects;
  out.bytes_received = counters_.received;
  out.bytes_sent = counters_.sent;
  for (size_t i = 0; i < kPriorityCount; ++i) out.bytes_by_priority[i] = counters_.by_priority[i];
  out.active = counters_.active;
  out.queued = counters_.queued;
  return out;
}

LinkEstimate Client::Impl::link(const std::string& origin) const {
  MutexLock lock(links_mutex_);
  const auto it = links_.find(origin);
  if (it == links_.end()) return {};
  LinkEstimate estimate = it->second.estimate;
  estimate.peak_bytes_per_second = it->second.meter.best();
  estimate.least_first_byte = it->second.meter.least_first_byte();
  return estimate;
}

Client::Impl::Link& Client::Impl::link_of(const std::string& origin) {
  if (links_.size() >= kMaxLinks && !links_.contains(origin)) links_.clear();
  return links_[origin];
}

}  // namespace pagein::net
