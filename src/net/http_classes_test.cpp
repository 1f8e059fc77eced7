// Classes of requests: who overtakes, who yields, how fast each may be.
#include <gtest/gtest.h>

#include <chrono>
#include <thread>

#include "base/mutex.h"
#include "net/fake_server.h"
#include "net/http_client_testing.h"

namespace pagein::net {
namespace {

using namespace std::chrono_literals;

// Answers "/demand" once the gate opens, anything else with `body` at once.
auto holding_demand(Gate& gate, const std::string& body) {
  return [&gate, &body](const FakeRequest& request) {
    if (request.path != "/demand") return FakeResponse{.body = body};
    gate.wait();
    return FakeResponse{.body = "x"};
  };
}

TEST(HttpClasses, DemandOvertakesWhatIsQueued) {
  Gate gate;
  FakeServer server([&](const FakeRequest& request) {
    if (request.path == "/first") gate.wait();
    return FakeResponse{.body = request.path};
  });
  auto client = make_client({.max_connections_per_origin = 1});
  Mutex mutex;
  std::vector<std::string> order;
  auto make = [&](const std::string& path, Priority priority) {
    auto probe = std::make_shared<Probe>();
    probe->react = [&](Probe& self) {
      MutexLock lock(mutex);
      order.push_back(self.body);
    };
    Request request = get(server.url(path));
    request.priority = priority;
    client->start(request, probe);
    return probe;
  };
  std::vector<std::shared_ptr<Probe>> probes;
  probes.push_back(make("/first", Priority::background));
  while (client->stats().active < 1) std::this_thread::yield();
  probes.push_back(make("/background", Priority::background));
  probes.push_back(make("/prefetch", Priority::prefetch));
  probes.push_back(make("/demand", Priority::demand));
  while (client->stats().queued < 3) std::this_thread::yield();
  gate.open();
  for (auto& probe : probes) ASSERT_TRUE(probe->wait().ok());
  EXPECT_EQ(order, (std::vector<std::string>{"/first", "/demand", "/prefetch", "/background"}));
  EXPECT_EQ(server.connections(), 1u);
}

TEST(HttpClasses, BackgroundLeavesRoomForDemand) {
  Gate gate;
  FakeServer server([&](const FakeRequest& request) {
    if (request.path == "/background") gate.wait();
    return FakeResponse{.body = "x"};
  });
  auto client = make_client({.max_connections_per_origin = 4, .max_background_per_origin = 3});
  std::vector<std::shared_ptr<Probe>> probes;
  for (int i = 0; i < 6; ++i) {
    Request request = get(server.url("/background"));
    request.priority = Priority::background;
    probes.push_back(std::make_shared<Probe>());
    client->start(request, probes.back());
  }
  EXPECT_TRUE(client->perform(get(server.url("/demand")), kCap).ok());
  // What stats() says is published at the end of each round of the net thread.
  const auto deadline = Clock::now() + 10s;
  while (client->stats().active != 3 && Clock::now() < deadline) std::this_thread::yield();
  EXPECT_EQ(client->stats().active, 3u);
  EXPECT_EQ(client->stats().queued, 3u);
  gate.open();
  for (auto& probe : probes) EXPECT_TRUE(probe->wait().ok());
}

// Else somebody who reads many streams in an order of his own waits forever.
TEST(HttpClasses, PausedTransfersGiveUpTheirPlace) {
  const std::string body = pattern(4 << 20);
  FakeServer server([&](const FakeRequest&) { return FakeResponse{.body = body}; });
  auto client = make_client({.max_connections_per_origin = 1});
  std::vector<std::shared_ptr<Probe>> probes;
  std::vector<RequestId> ids;
  for (int i = 0; i < 3; ++i) {
    probes.push_back(std::make_shared<Probe>());
    ids.push_back(client->start(get(server.url()), probes.back()));
    client->pause(ids.back());
  }
  for (const size_t i : {2u, 0u, 1u}) {
    client->resume(ids[i]);
    ASSERT_TRUE(probes[i]->wait().ok());
    EXPECT_TRUE(probes[i]->body == body);
  }
  EXPECT_TRUE(client->perform(get(server.url()), kCap).ok());
}

TEST(HttpClasses, PausedClassWaits) {
  FakeServer server([](const FakeRequest&) { return FakeResponse{.body = "x"}; });
  auto client = make_client();
  client->pause_class(Priority::background);
  auto probe = std::make_shared<Probe>();
  Request request = get(server.url("/background"));
  request.priority = Priority::background;
  client->start(request, probe);
  EXPECT_TRUE(client->perform(get(server.url("/demand")), kCap).ok());
  EXPECT_EQ(server.requests().size(), 1u);
  client->resume_class(Priority::background);
  EXPECT_TRUE(probe->wait().ok());
}

TEST(HttpClasses, BackgroundYieldsToDemandOfItsOrigin) {
  Gate demand_may_end;
  const std::string body = pattern(8 << 20);
  FakeServer server(holding_demand(demand_may_end, body));
  auto client = make_client({.background_yields = true});
  auto demand = std::make_shared<Probe>();
  client->start(get(server.url("/demand")), demand);
  auto background = std::make_shared<Probe>();
  Request request = get(server.url("/background"));
  request.priority = Priority::background;
  client->start(request, background);
  while (client->stats().queued < 1) std::this_thread::yield();
  EXPECT_EQ(client->stats().bytes_by_priority[2], 0u);
  demand_may_end.open();
  EXPECT_TRUE(demand->wait().ok());
  EXPECT_TRUE(background->wait().ok());
  EXPECT_EQ(background->body.size(), body.size());
}

TEST(HttpClasses, APromotedRequestDoesNotYield) {
  Gate demand_may_end;
  const std::string body = pattern(8 << 20);
  FakeServer server(holding_demand(demand_may_end, body));
  auto client = make_client({.background_yields = true});
  Request request = get(server.url("/running"));
  request.priority = Priority::background;
  auto running = std::make_shared<Probe>();
  client->pause_class(Priority::background);
  const RequestId first = client->start(request, running);
  auto demand = std::make_shared<Probe>();
  client->start(get(server.url("/demand")), demand);
  request.url = server.url("/queued");
  auto queued = std::make_shared<Probe>();
  const RequestId second = client->start(request, queued);
  while (client->stats().queued < 2) std::this_thread::yield();
  client->promote(first);
  client->promote(second);
  client->promote(12345);
  EXPECT_TRUE(running->wait().ok());
  EXPECT_TRUE(queued->wait().ok());
  EXPECT_EQ(running->body.size(), body.size());
  EXPECT_EQ(client->stats().bytes_by_priority[2], 0u);
  demand_may_end.open();
  EXPECT_TRUE(demand->wait().ok());
  while (client->stats().active > 0) std::this_thread::yield();
}

TEST(HttpClasses, ARequestPromotedInItsMiddleGoesOn) {
  Gate demand_may_end;
  const std::string body = pattern(8 << 20);
  FakeServer server(holding_demand(demand_may_end, body));
  auto client = make_client({.background_yields = true});
  // Held by its bandwidth, then by the demand beside it.
  client->set_class_bandwidth(Priority::background, 1);
  Request request = get(server.url("/background"));
  request.priority = Priority::background;
  auto background = std::make_shared<Probe>();
  const RequestId id = client->start(request, background);
  while (server.requests().empty()) std::this_thread::yield();
  auto demand = std::make_shared<Probe>();
  client->start(get(server.url("/demand")), demand);
  while (server.requests().size() < 2) std::this_thread::yield();
  client->promote(id);
  EXPECT_TRUE(background->wait().ok());
  EXPECT_TRUE(background->body == body);
  demand_may_end.open();
  EXPECT_TRUE(demand->wait().ok());
}

TEST(HttpClasses, ClassBandwidthIsKept) {
  FakeServer server([](const FakeRequest&) { return FakeResponse{.body = pattern(1 << 20)}; });
  auto client = make_client();
  client->set_class_bandwidth(Priority::background, 8 << 20);
  Request request = get(server.url());
  request.priority = Priority::background;
  const auto start = Clock::now();
  std::vector<std::shared_ptr<Probe>> probes;
  for (int i = 0; i < 2; ++i) {
    probes.push_back(std::make_shared<Probe>());
    client->start(request, probes.back());
  }
  for (auto& probe : probes) ASSERT_TRUE(probe->wait().ok());
  // 2 MiB at 8 MiB/s, less what may come at once at the end.
  EXPECT_GE(Clock::now() - start, 120ms);
}

}  // namespace
}  // namespace pagein::net
