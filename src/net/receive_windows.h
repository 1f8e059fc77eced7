// How much a server may have on its way to us: what is on its way cannot be
// overtaken, so it is no more than keeps the link busy.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>

#include "net/http_client.h"

namespace pagein::net {

// The receive windows of the client's sockets. Confined to the net thread.
class ReceiveWindows {
 public:
  // libcurl opened a socket, or is about to close it.
  void opened(int fd) { sockets_[fd] = {}; }
  void closed(int fd) { sockets_.erase(fd); }

  // The socket with these ports; -1 where it is not one of ours.
  int find(int local_port, int peer_port);
  // Least round trip that the kernel saw; zero where it does not say.
  static std::chrono::microseconds least_round_trip(int fd);
  // Bytes that may be under way. Takes effect as what was allowed before is used up.
  static void limit(int fd, uint32_t bytes);

 private:
  struct Socket {
    int local_port = 0;  // 0: not asked for yet
    int peer_port = 0;
  };
  std::map<int, Socket> sockets_;
};

// Window of each of `transfers` that share a link: twice what fills it between
// them, so that a rate held down by the window is found out (it doubles until
// the link is full), within bounds.
uint32_t receive_window(double bytes_per_second, std::chrono::microseconds round_trip,
                        size_t transfers);

// What a link has done at its best lately. Confined to one thread or guarded.
class LinkMeter {
 public:
  void add(uint64_t bytes, Clock::time_point now);
  void add_first_byte(std::chrono::microseconds wait, Clock::time_point now);
  // Bytes per second over the best tenth of a second of the last five to ten
  // seconds of traffic.
  double best() const;
  // The shortest wait in that time; zero for none.
  std::chrono::microseconds least_first_byte() const;

 private:
  void next_epoch(Clock::time_point now);

  Clock::time_point slice_{};
  uint64_t slice_bytes_ = 0;
  Clock::time_point epoch_{};
  uint64_t best_now_ = 0;     // bytes a slice, of this epoch
  uint64_t best_before_ = 0;  // of the one before
  std::chrono::microseconds least_now_ = std::chrono::microseconds::max();
  std::chrono::microseconds least_before_ = std::chrono::microseconds::max();
};

}  // namespace pagein::net
