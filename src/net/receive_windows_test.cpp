#include "net/receive_windows.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "base/unique_fd.h"

namespace pagein::net {
namespace {

using namespace std::chrono_literals;

TEST(ReceiveWindow, FillsTheLinkTwiceWithinBounds) {
  EXPECT_EQ(receive_window(0, 0us, 2), 64u << 10) << "nothing measured yet";
  EXPECT_EQ(receive_window(37.5e6, 200us, 2), 64u << 10) << "a near registry";
  EXPECT_EQ(receive_window(40e6, 20ms, 2), 800'000u);
  EXPECT_EQ(receive_window(1e10, 1s, 1), 16u << 20);
  EXPECT_EQ(receive_window(40e6, 20ms, 0), 1'600'000u);
}

TEST(LinkMeter, KeepsTheBestTenthOfASecondForAWhile) {
  LinkMeter meter;
  Clock::time_point now = Clock::time_point() + 1h;
  EXPECT_EQ(meter.best(), 0);
  meter.add(3'000'000, now);
  meter.add(1'000'000, now + 50ms);
  meter.add(10, now + 100ms);  // ends the slice
  EXPECT_EQ(meter.best(), 40e6);
  for (int i = 0; i < 4; ++i) meter.add(10, now += 1s);
  EXPECT_EQ(meter.best(), 40e6) << "a pause says nothing about the link";
  for (int i = 0; i < 12; ++i) meter.add(10, now += 1s);
  EXPECT_LT(meter.best(), 1000);
}

TEST(LinkMeter, KeepsTheLeastWaitForAWhile) {
  LinkMeter meter;
  Clock::time_point now = Clock::time_point() + 1h;
  EXPECT_EQ(meter.least_first_byte(), 0us);
  meter.add_first_byte(9ms, now);
  meter.add_first_byte(3ms, now);
  meter.add_first_byte(20ms, now + 6s);
  EXPECT_EQ(meter.least_first_byte(), 3ms);
  meter.add_first_byte(20ms, now + 12s);
  EXPECT_EQ(meter.least_first_byte(), 20ms);
}

class ReceiveWindowsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    listener_ = UniqueFd(listener);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listener, 1), 0);
    peer_port_ = port(listener);
    client_ = UniqueFd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    address.sin_port = htons(static_cast<uint16_t>(peer_port_));
    windows_.opened(client_.get());
    EXPECT_EQ(windows_.find(1, peer_port_), -1) << "not connected yet";
    ASSERT_EQ(::connect(client_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  static int port(int fd) {
    sockaddr_in address{};
    socklen_t length = sizeof address;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
    return ntohs(address.sin_port);
  }
  int clamp() const {
    int value = 0;
    socklen_t length = sizeof value;
    ::getsockopt(client_.get(), IPPROTO_TCP, TCP_WINDOW_CLAMP, &value, &length);
    return value;
  }
  UniqueFd listener_, client_;
  int peer_port_ = 0;
  ReceiveWindows windows_;
};

TEST_F(ReceiveWindowsTest, LimitsASocketFoundByItsPorts) {
  const int local = port(client_.get());
  EXPECT_EQ(windows_.find(local, peer_port_ + 1), -1);
  const int fd = windows_.find(local, peer_port_);
  ASSERT_EQ(fd, client_.get());
  ReceiveWindows::limit(fd, 70'000);
  EXPECT_EQ(clamp(), 70'000);
  EXPECT_LT(ReceiveWindows::least_round_trip(fd), 1s);
}

TEST_F(ReceiveWindowsTest, AClosedSocketIsForgotten) {
  const int local = port(client_.get());
  windows_.closed(client_.get());
  EXPECT_EQ(windows_.find(local, peer_port_), -1);
}

}  // namespace
}  // namespace pagein::net
