#include "net/receive_windows.h"

#include <linux/tcp.h>  // not netinet/tcp.h, whose tcp_info ends before tcpi_min_rtt
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <utility>

namespace pagein::net {

namespace {

constexpr uint32_t kMinWindow = 64 << 10;
constexpr uint32_t kMaxWindow = 16 << 20;
constexpr std::chrono::milliseconds kSlice{100};
constexpr std::chrono::seconds kEpoch{5};

using AskName = int (*)(int, sockaddr*, socklen_t*);

int port_of(int fd, AskName ask) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (ask(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  if (address.ss_family == AF_INET) {
    return ntohs(reinterpret_cast<const sockaddr_in&>(address).sin_port);
  }
  if (address.ss_family == AF_INET6) {
    return ntohs(reinterpret_cast<const sockaddr_in6&>(address).sin6_port);
  }
  return 0;
}

}  // namespace

int ReceiveWindows::find(int local_port, int peer_port) {
  for (auto& [fd, socket] : sockets_) {
    if (socket.local_port == 0) {
      socket.local_port = port_of(fd, ::getsockname);
      socket.peer_port = port_of(fd, ::getpeername);
      if (socket.peer_port == 0) socket.local_port = 0;  // not connected yet
    }
    if (socket.local_port == local_port && socket.peer_port == peer_port) return fd;
  }
  return -1;
}

std::chrono::microseconds ReceiveWindows::least_round_trip(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  if (::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) != 0) return {};
  if (info.tcpi_min_rtt == UINT32_MAX) return {};  // nothing measured yet
  return std::chrono::microseconds(info.tcpi_min_rtt);
}

// Best effort: without it, demand waits for what is under way.
void ReceiveWindows::limit(int fd, uint32_t bytes) {
  const int value = static_cast<int>(bytes);
  static_cast<void>(::setsockopt(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, &value, sizeof value));
}

uint32_t receive_window(double bytes_per_second, std::chrono::microseconds round_trip,
                        size_t transfers) {
  const double fill = bytes_per_second * std::chrono::duration<double>(round_trip).count();
  const double each = 2 * fill / static_cast<double>(std::max<size_t>(transfers, 1));
  return static_cast<uint32_t>(std::clamp(each, double{kMinWindow}, double{kMaxWindow}));
}

void LinkMeter::add(uint64_t bytes, Clock::time_point now) {
  if (now - slice_ >= kSlice) {
    best_now_ = std::max(best_now_, slice_bytes_);
    slice_ = now;
    slice_bytes_ = 0;
  }
  next_epoch(now);
  slice_bytes_ += bytes;
}

void LinkMeter::add_first_byte(std::chrono::microseconds wait, Clock::time_point now) {
  next_epoch(now);
  least_now_ = std::min(least_now_, wait);
}

void LinkMeter::next_epoch(Clock::time_point now) {
  if (now - epoch_ < kEpoch) return;
  best_before_ = std::exchange(best_now_, 0);
  least_before_ = std::exchange(least_now_, std::chrono::microseconds::max());
  epoch_ = now;
}

std::chrono::microseconds LinkMeter::least_first_byte() const {
  const auto least = std::min(least_now_, least_before_);
  return least == std::chrono::microseconds::max() ? std::chrono::microseconds(0) : least;
}

double LinkMeter::best() const {
  return static_cast<double>(std::max(best_now_, best_before_)) /
         std::chrono::duration<double>(kSlice).count();
}

}  // namespace pagein::net
