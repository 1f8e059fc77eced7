// The net thread behind Client.
#pragma once

#include <curl/curl.h>

#include <array>
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "net/admission.h"
#include "net/http_client.h"
#include "net/rate_limit.h"
#include "net/receive_windows.h"
#include "net/transfer.h"

namespace pagein::net {

// Other threads only post commands and read counters; everything else is
// confined to the net thread. The multi handle is touched in the loop alone,
// never from a callback (libcurl forbids that).
class Client::Impl : public TransferPolicy {
 public:
  explicit Impl(ClientOptions options);
  ~Impl() override;
  static Status start_thread(const std::shared_ptr<Impl>& self);
  void stop();  // joins, or lets the net thread go where that is the caller

  RequestId next_id() { return next_id_.fetch_add(1) + 1; }
  void post(std::function<void()> command);
  bool on_net_thread() const { return std::this_thread::get_id() == thread_id_.load(); }
  Stats stats() const;
  LinkEstimate link(const std::string& origin) const;

  // On the net thread from here on.
  void begin(std::unique_ptr<Transfer> transfer);
  bool known(RequestId id) const { return entries_.contains(id); }
  void cancel(RequestId id);
  void pause(RequestId id);
  void resume(RequestId id);
  void promote(RequestId id);
  void body_ready(RequestId id);
  void set_class_limit(Priority priority, size_t transfers);
  void set_class_paused(Priority priority, unsigned hold_bits);
  void set_class_bandwidth(Priority priority, uint64_t bytes_per_second);
  using Timers = std::multimap<Clock::time_point, std::function<void()>>;
  Timers::iterator add_timer(Clock::time_point when, std::function<void()> task);

  unsigned admit_data(const Transfer& transfer, size_t bytes) override;
  void count_sent(size_t bytes) override;
  void socket_opened(int fd) override { windows_.opened(fd); }
  void socket_closed(int fd) override { windows_.closed(fd); }
  void request_begins(const Transfer& transfer, int local_port, int peer_port) override;

 private:
  struct Entry {
    std::unique_ptr<Transfer> transfer;
    bool running = false;  // in the multi handle
    bool parked = false;   // running, but paused: takes no place in admission_
    bool has_deadline = false;
    Timers::iterator deadline;
  };
  using Entries = std::unordered_map<RequestId, Entry>;

  static void thread_main(std::shared_ptr<Impl> self);
  void loop();
  bool run_commands();
  void run_timers();
  int poll_timeout_ms() const;
  void start_admitted();
  void start_transfer(Entry& entry);
  bool collect_ended();  // whether any had
  void reap_cancelled();
  void hop_ended(Entry& entry, CURLcode code);
  // Removes it and tells its handler.
  void finish(RequestId id, Status status);
  void stop_running(Entry& entry);
  void park(Entry& entry);
  void unpark(Entry& entry);
  void measure(const Transfer& transfer);
  void update_yield();
  void cancel_all();

  const ClientOptions options_;
  CURLM* multi_ = nullptr;
  CURLSH* share_ = nullptr;
  std::thread thread_;
  std::atomic<std::thread::id> thread_id_{};
  std::atomic<RequestId> next_id_{0};

  Mutex mutex_;
  std::vector<std::function<void()>> commands_ GUARDED_BY(mutex_);
  bool stopping_ GUARDED_BY(mutex_) = false;

  Admission admission_;
  Entries entries_;
  Timers timers_;
  std::vector<RequestId> cancelled_;
  bool place_freed_ = false;  // by a pause, maybe inside a callback
  std::array<RateLimit, kPriorityCount> rates_;
  std::array<bool, kPriorityCount> rate_timer_{};
  std::array<unsigned, kPriorityCount> class_holds_{};

  struct Counters {
    std::atomic<uint64_t> requests{0}, failures{0}, connects{0}, received{0}, sent{0};
    std::array<std::atomic<uint64_t>, kPriorityCount> by_priority{};
    std::atomic<uint64_t> active{0}, queued{0};
  } counters_;
  ReceiveWindows windows_;
  struct Link {
    LinkEstimate estimate;
    LinkMeter meter;
  };
  Link& link_of(const std::string& origin) REQUIRES(links_mutex_);
  mutable Mutex links_mutex_;
  std::map<std::string, Link> links_ GUARDED_BY(links_mutex_);
};

}  // namespace pagein::net
