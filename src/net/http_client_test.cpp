#include "net/http_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <future>

#include "net/fake_server.h"
#include "net/http_client_testing.h"

namespace pagein::net {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

TEST(HttpClient, GetsABodyAndReusesTheConnection) {
  FakeServer server([](const FakeRequest& request) {
    return FakeResponse{.headers = {{"X-Path", request.path}}, .body = "hello"};
  });
  auto client = make_client();
  for (int i = 0; i < 3; ++i) {
    auto response = client->perform(get(server.url("/a?secret=1")), kCap);
    ASSERT_TRUE(response.ok()) << response.error().message;
    EXPECT_EQ(response->head.status, 200);
    EXPECT_EQ(response->body, "hello");
    EXPECT_EQ(*response->head.headers.find("x-path"), "/a");
  }
  EXPECT_EQ(server.connections(), 1u);
  const Stats stats = client->stats();
  EXPECT_EQ(stats.requests, 3u);
  EXPECT_EQ(stats.connects, 1u);
  EXPECT_EQ(stats.bytes_received, 15u);
  EXPECT_EQ(stats.bytes_by_priority[0], 15u);
  EXPECT_GT(client->link(server.url()).first_byte.count(), 0);
}

TEST(HttpClient, EveryMethodCarriesItsBody) {
  FakeServer server([](const FakeRequest& request) {
    return FakeResponse{.status = 201, .body = request.method + ":" + request.body};
  });
  auto client = make_client();
  const std::pair<Method, std::string> cases[] = {
      {Method::post, "POST:x"}, {Method::put, "PUT:x"}, {Method::patch, "PATCH:x"}};
  for (const auto& [method, expected] : cases) {
    Request request = get(server.url());
    request.method = method;
    request.body = "x";
    auto response = client->perform(request, kCap);
    ASSERT_TRUE(response.ok());
    EXPECT_EQ(response->body, expected);
    request.body.clear();
    response = client->perform(request, kCap);
    ASSERT_TRUE(response.ok());
    EXPECT_EQ(response->body + "x", expected);
    EXPECT_EQ(server.requests().back().header("content-length"), "0");
  }
  Request request = get(server.url());
  request.method = Method::del;
  EXPECT_EQ(client->perform(request, kCap)->body, "DELETE:");
  request.method = Method::head;
  auto head = client->perform(request, kCap);
  ASSERT_TRUE(head.ok());
  EXPECT_EQ(head->body, "");
  EXPECT_EQ(head->head.content_length(), 5u);
}

class StringProvider : public BodyProvider {
 public:
  explicit StringProvider(std::string text) : text_(std::move(text)) {}
  Result<size_t> read(std::span<uint8_t> out) override {
    if (!stalled_ && at_ >= text_.size() / 2) {
      stalled_ = true;
      if (on_stall) on_stall();
      return kLater;
    }
    const size_t n = std::min(out.size(), text_.size() - at_);
    std::memcpy(out.data(), text_.data() + at_, n);
    at_ += n;
    return n;
  }
  Status rewind() override {
    at_ = 0;
    return {};
  }
  std::function<void()> on_stall;

 private:
  std::string text_;
  size_t at_ = 0;
  bool stalled_ = false;
};

TEST(HttpClient, StreamsAnUploadThatPausesOnTheWay) {
  const std::string body = pattern(3 << 20);
  FakeServer server(
      [](const FakeRequest& request) { return FakeResponse{.status = 201, .body = request.body}; });
  auto client = make_client();
  auto provider = std::make_shared<StringProvider>(body);
  Gate stalled;
  provider->on_stall = [&] { stalled.open(); };
  Request request = get(server.url());
  request.method = Method::put;
  request.upload = provider;
  request.upload_size = body.size();
  auto probe = std::make_shared<Probe>();
  const RequestId id = client->start(request, probe);
  stalled.wait();
  client->body_ready(id);
  ASSERT_TRUE(probe->wait().ok());
  EXPECT_TRUE(probe->body == body);
  EXPECT_EQ(client->stats().bytes_sent, body.size());
}

TEST(HttpClient, BodyCapEndsATransfer) {
  FakeServer server([](const FakeRequest&) { return FakeResponse{.body = pattern(1 << 20)}; });
  auto client = make_client();
  auto response = client->perform(get(server.url("/x?token=s3cret")), 1000);
  ASSERT_FALSE(response.ok());
  EXPECT_EQ(response.error().code, Code::exhausted);
  EXPECT_THAT(response.error().message, Not(HasSubstr("s3cret")));
}

TEST(HttpClient, RedirectAcrossOriginsDropsWhatIsSecret) {
  FakeServer* self = nullptr;
  FakeServer server([&self](const FakeRequest& request) {
    if (request.path == "/start") {
      return FakeResponse{.status = 307,
                          .headers = {{"Location", self->other_url("/blob?sig=1")}},
                          .body = "moved"};
    }
    return FakeResponse{.status = 206, .body = "data"};
  });
  self = &server;
  auto client = make_client();
  Request request = get(server.url("/start"));
  request.headers.add("Authorization", "Bearer s3cret");
  request.headers.add("X-Api-Key", "s3cret");
  request.headers.add("Range", "bytes=0-3");
  auto response = client->perform(request, kCap);
  ASSERT_TRUE(response.ok()) << response.error().message;
  EXPECT_EQ(response->body, "data");
  EXPECT_TRUE(response->head.other_origin);
  EXPECT_EQ(response->head.url, server.other_url("/blob?sig=1"));
  const auto requests = server.requests();
  ASSERT_EQ(requests.size(), 2u);
  EXPECT_EQ(requests[0].header("authorization"), "Bearer s3cret");
  EXPECT_EQ(requests[1].header("authorization"), "");
  EXPECT_EQ(requests[1].header("x-api-key"), "");
  EXPECT_EQ(requests[1].header("range"), "bytes=0-3");
}

TEST(HttpClient, CredentialsDoNotComeBackWithASecondRedirect) {
  FakeServer* self = nullptr;
  FakeServer server([&self](const FakeRequest& request) {
    if (request.path == "/1") {
      return FakeResponse{.status = 302, .headers = {{"Location", self->other_url("/2")}}};
    }
    if (request.path == "/2") {
      return FakeResponse{.status = 302, .headers = {{"Location", self->url("/3")}}};
    }
    return FakeResponse{.body = request.header("authorization")};
  });
  self = &server;
  auto client = make_client();
  Request request = get(server.url("/1"));
  request.headers.add("Authorization", "Basic s3cret");
  auto response = client->perform(request, kCap);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->body, "");
}

TEST(HttpClient, SameOriginRedirectKeepsCredentialsAndBody) {
  FakeServer server([](const FakeRequest& request) {
    if (request.path == "/1") {
      return FakeResponse{.status = 307, .headers = {{"Location", "/2"}}};
    }
    return FakeResponse{.body = request.method + request.header("authorization") + request.body};
  });
  auto client = make_client();
  Request request = get(server.url("/1"));
  request.method = Method::put;
  request.body = "body";
  request.headers.add("Authorization", "Basic x");
  auto response = client->perform(request, kCap);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->body, "PUTBasic xbody");
}

TEST(HttpClient, RedirectLoopsAndBadTargetsEnd) {
  FakeServer server([](const FakeRequest& request) {
    return FakeResponse{
        .status = 302,
        .headers = {{"Location", request.path == "/file" ? "file:///etc/passwd" : "/loop"}}};
  });
  auto client = make_client();
  auto loop = client->perform(get(server.url("/loop")), kCap);
  ASSERT_FALSE(loop.ok());
  EXPECT_EQ(loop.error().code, Code::corrupt_input);
  EXPECT_EQ(server.requests().size(), 11u);
  EXPECT_FALSE(client->perform(get(server.url("/file")), kCap).ok());
}

TEST(HttpClient, ManualRedirectsAreHandedOver) {
  FakeServer server([](const FakeRequest&) {
    return FakeResponse{.status = 307, .headers = {{"Location", "/elsewhere"}}};
  });
  auto client = make_client();
  Request request = get(server.url());
  request.redirects = Redirects::manual;
  auto response = client->perform(request, kCap);
  ASSERT_TRUE(response.ok());
  EXPECT_EQ(response->head.status, 307);
}

TEST(HttpClient, FailuresSayWhichUrlWithoutItsQuery) {
  auto client = make_client();
  std::string url;
  {
    FakeServer gone([](const FakeRequest&) { return FakeResponse{}; });
    url = gone.url("/blob?sig=s3cret");
  }
  auto refused = client->perform(get(url), kCap);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::unavailable);
  EXPECT_THAT(refused.error().message, HasSubstr("/blob"));
  EXPECT_THAT(refused.error().message, Not(HasSubstr("s3cret")));
  for (const char* bad : {"ftp://host/", "http://u:p4ss@host/", "nonsense", "http://a b/"}) {
    auto response = client->perform(get(bad), kCap);
    ASSERT_FALSE(response.ok()) << bad;
    EXPECT_EQ(response.error().code, Code::invalid_argument);
    EXPECT_THAT(response.error().message, Not(HasSubstr("p4ss")));
  }
  Request split = get(url);
  split.headers.add("X", "a\r\nInjected: b");
  EXPECT_EQ(client->perform(split, kCap).error().code, Code::invalid_argument);
}

TEST(HttpClient, ShortBodyAndResetAreUnavailable) {
  FakeServer server([](const FakeRequest& request) {
    return FakeResponse{
        .body = "half",
        .claimed_length = 8,
        .end = request.path == "/reset" ? FakeResponse::End::reset : FakeResponse::End::close};
  });
  auto client = make_client();
  for (const char* path : {"/reset", "/short"}) {
    auto probe = std::make_shared<Probe>();
    client->start(get(server.url(path)), probe);
    const Status status = probe->wait();
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, Code::unavailable) << status.error().message;
  }
}

TEST(HttpClient, NonsenseIsNotAnAnswer) {
  FakeServer server([](const FakeRequest&) {
    return FakeResponse{.end = FakeResponse::End::close, .raw = "SSH-2.0-OpenSSH_9.2\r\n"};
  });
  auto client = make_client();
  EXPECT_FALSE(client->perform(get(server.url()), kCap).ok());
}

TEST(HttpClient, DeadlineEndsAWaitingRequest) {
  Gate gate;
  FakeServer server([&](const FakeRequest&) {
    gate.wait();
    return FakeResponse{};
  });
  auto client = make_client();
  Request request = get(server.url());
  request.deadline = Clock::now() + 20ms;
  auto response = client->perform(request, kCap);
  gate.open();
  ASSERT_FALSE(response.ok());
  EXPECT_EQ(response.error().code, Code::timeout);
}

TEST(HttpClient, CancelIsReportedOnceAndStopsData) {
  FakeServer server([](const FakeRequest&) { return FakeResponse{.body = pattern(4 << 20)}; });
  auto client = make_client();
  auto probe = std::make_shared<Probe>();
  std::atomic<RequestId> id{0};
  Gate started;
  probe->react = [&](Probe& self) {
    started.wait();
    client->cancel(id);
    EXPECT_FALSE(self.body.empty());
    self.react = [](Probe&) { ADD_FAILURE() << "data after cancel"; };
  };
  id = client->start(get(server.url()), probe);
  started.open();
  EXPECT_EQ(probe->wait().error().code, Code::cancelled);
  client->cancel(id);
  client->cancel(12345);
}

TEST(HttpClient, PauseHoldsDataBack) {
  const std::string body = pattern(4 << 20);
  FakeServer server([&](const FakeRequest&) { return FakeResponse{.body = body}; });
  auto client = make_client();
  auto probe = std::make_shared<Probe>();
  std::atomic<RequestId> id{0};
  Gate started;
  int pauses = 0;
  std::atomic<bool> paused{false};
  probe->react = [&](Probe&) {
    if (pauses == 0) started.wait();
    EXPECT_FALSE(paused) << "data while paused";
    if (++pauses > 5) return;
    paused = true;
    client->pause(id);
    client->run_after(2ms, [&] {
      paused = false;
      client->resume(id);
    });
  };
  id = client->start(get(server.url()), probe);
  started.open();
  ASSERT_TRUE(probe->wait().ok());
  EXPECT_TRUE(probe->body == body);
}

TEST(HttpClient, DestructionEndsWhatIsLeft) {
  Gate gate;
  FakeServer server([&](const FakeRequest&) {
    gate.wait();
    return FakeResponse{};
  });
  auto probe = std::make_shared<Probe>();
  {
    auto client = make_client();
    client->start(get(server.url()), probe);
  }
  EXPECT_EQ(probe->wait().error().code, Code::cancelled);
  gate.open();
}

// The last owner may be a callback on the net thread.
TEST(HttpClient, MayBeDestroyedByItsOwnCallback) {
  FakeServer server([](const FakeRequest&) { return FakeResponse{.body = "x"}; });
  class Owner : public ResponseHandler {
   public:
    void on_headers(const ResponseHead&) override {}
    void on_data(ByteView) override {}
    void on_done(Status status) override {
      client.reset();
      done.set_value(std::move(status));
    }
    std::shared_ptr<Client> client;
    std::promise<Status> done;
  };
  auto owner = std::make_shared<Owner>();
  Gate held;
  owner->client = make_client();
  Client* client = owner->client.get();
  client->run_after(0ns, [&] { held.wait(); });
  client->start(get(server.url()), owner);
  held.open();
  EXPECT_TRUE(owner->done.get_future().get().ok());
}

TEST(HttpClient, PerformOnTheNetThreadIsRefused) {
  auto client = make_client();
  std::promise<Code> code;
  client->run_after(0ns,
                    [&] { code.set_value(client->perform(get("http://x/"), 1).error().code); });
  EXPECT_EQ(code.get_future().get(), Code::internal);
}

TEST(HttpClient, ManyAtOnce) {
  FakeServer server([](const FakeRequest& request) {
    return FakeResponse{.body = pattern(10'000) + request.path};
  });
  auto client = make_client();
  std::vector<std::shared_ptr<Probe>> probes;
  for (int i = 0; i < 300; ++i) {
    Request request = get(server.url("/" + std::to_string(i)));
    request.priority = static_cast<Priority>(i % 3);
    probes.push_back(std::make_shared<Probe>());
    client->start(request, probes.back());
  }
  for (int i = 0; i < 300; ++i) {
    ASSERT_TRUE(probes[i]->wait().ok());
    EXPECT_TRUE(probes[i]->body == pattern(10'000) + "/" + std::to_string(i));
  }
  EXPECT_LE(server.connections(), 16u);
}

}  // namespace
}  // namespace pagein::net
