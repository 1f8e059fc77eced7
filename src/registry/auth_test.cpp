#include "registry/auth.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "registry/test_support.h"

namespace pagein::registry {
namespace {

using net::FakeRequest;
using net::FakeResponse;
using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

// A registry that wants bearer tokens, and its token service at /token.
class AuthTest : public ::testing::Test {
 protected:
  AuthTest() : content_(pattern(1000)), digest_(registry_.add(content_)) {
    realm_ = registry_.server().url("/token");
    registry_.set_fault([this](const FakeRequest& request, int) { return guard_door(request); });
  }

  std::optional<FakeResponse> guard_door(const FakeRequest& request) {
    if (request.path == "/token") {
      ++tokens_given_;
      token_requests_.push_back(request);
      if (token_status_ != 200) return FakeResponse{.status = token_status_};
      const std::string field = "\"" + token_field_ + "\":\"t" + std::to_string(tokens_given_);
      return FakeResponse{.body = "{" + field + "\"" + token_extra_ + "}"};
    }
    if (request.header("authorization") == "Bearer t" + std::to_string(tokens_given_) &&
        tokens_given_ > 0 && !revoked_) {
      return std::nullopt;
    }
    revoked_ = false;
    FakeResponse refusal{.status = refusal_status_};
    if (send_challenge_) {
      refusal.headers = {{"WWW-Authenticate", "Bearer realm=\"" + realm_ +
                                                  "\",service=\"reg\",scope=\"" + scope_ + "\""}};
    }
    return refusal;
  }

  Status read(const TestSession& test) {
    auto sink = std::make_shared<SinkProbe>();
    auto source = Repository(test.session, registry_.reference()).blobs();
    source->read({.digest = digest_, .blob_size = 1000, .offset = 10, .length = 10}, sink);
    return sink->wait();
  }

  FakeRegistry registry_;
  std::string content_;
  oci::Digest digest_;
  std::string realm_;
  std::string scope_ = "repository:app:pull";
  std::string token_field_ = "token";
  std::string token_extra_;
  int token_status_ = 200;
  int refusal_status_ = 401;
  bool send_challenge_ = true;
  std::atomic<bool> revoked_{false};
  std::atomic<int> tokens_given_{0};
  std::vector<FakeRequest> token_requests_;
};

std::shared_ptr<CredentialProvider> user() {
  return std::make_shared<StaticCredentials>("", Credentials{"user", "p4ss", ""});
}

TEST_F(AuthTest, AnonymousTokenIsCachedForItsLifetime) {
  token_extra_ = ",\"expires_in\":300";
  const TestSession test = make_test_session();
  EXPECT_TRUE(read(test).ok());
  EXPECT_TRUE(read(test).ok());
  ASSERT_EQ(tokens_given_, 1);
  EXPECT_EQ(token_requests_[0].query, "service=reg&scope=repository%3Aapp%3Apull");
  EXPECT_EQ(token_requests_[0].header("authorization"), "");
  test.scheduler->advance(269s);
  EXPECT_TRUE(read(test).ok());
  EXPECT_EQ(tokens_given_, 1);
  // Renewed before it expires, without being refused first.
  test.scheduler->advance(2s);
  const size_t before = registry_.server().requests().size();
  EXPECT_TRUE(read(test).ok());
  EXPECT_EQ(tokens_given_, 2);
  EXPECT_EQ(registry_.server().requests().size(), before + 2);
}

TEST_F(AuthTest, NoLifetimeMeansAMinute) {
  token_field_ = "access_token";
  const TestSession test = make_test_session();
  EXPECT_TRUE(read(test).ok());
  test.scheduler->advance(50s);
  EXPECT_TRUE(read(test).ok());
  EXPECT_EQ(tokens_given_, 1);
  test.scheduler->advance(10s);
  EXPECT_TRUE(read(test).ok());
  EXPECT_EQ(tokens_given_, 2);
}

TEST_F(AuthTest, CredentialsGoToTheRealmOnly) {
  const TestSession test = make_test_session(user());
  EXPECT_TRUE(read(test).ok());
  ASSERT_EQ(tokens_given_, 1);
  EXPECT_EQ(token_requests_[0].header("authorization"), "Basic dXNlcjpwNHNz");
  for (const FakeRequest& request : registry_.server().requests()) {
    if (request.path == "/token") continue;
    EXPECT_THAT(request.header("authorization"), Not(HasSubstr("Basic")));
  }
}

TEST_F(AuthTest, A403RefreshesOnceToo) {
  const TestSession test = make_test_session(user());
  EXPECT_TRUE(read(test).ok());
  for (const bool challenge : {true, false}) {
    refusal_status_ = 403;
    send_challenge_ = challenge;
    revoked_ = true;
    const int before = tokens_given_;
    EXPECT_TRUE(read(test).ok());
    EXPECT_EQ(tokens_given_, before + 1);
  }
}

TEST_F(AuthTest, DeniedForGoodIsReportedAfterOneRefresh) {
  registry_.set_fault([this](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    if (request.path == "/token") return guard_door(request);
    return FakeResponse{.status = 403,
                        .headers = {{"WWW-Authenticate", "Bearer realm=\"" + realm_ + "\""}}};
  });
  const Status status = read(make_test_session(user()));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::unauthenticated);
  EXPECT_EQ(tokens_given_, 1);
  EXPECT_EQ(registry_.server().requests().size(), 3u);
}

TEST_F(AuthTest, RefusedCredentialsSaySo) {
  token_status_ = 401;
  const Status status = read(make_test_session(user()));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::unauthenticated);
  EXPECT_THAT(status.error().message, HasSubstr("credentials"));
  EXPECT_THAT(status.error().message, Not(HasSubstr("p4ss")));
}

TEST_F(AuthTest, ATokenServiceThatIsDownIsTriedAgain) {
  token_status_ = 503;
  const Status status = read(make_test_session(user()));
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::unavailable);
  EXPECT_EQ(tokens_given_, 6);
}

TEST_F(AuthTest, BadTokensAreNotSent) {
  token_extra_ = "\\r\\nInjected: x\",\"x\":\"";
  const Status status = read(make_test_session());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, Code::corrupt_input);
}

TEST_F(AuthTest, ARealmElsewhereInTheClearGetsNothing) {
  for (const char* evil : {"http://192.0.2.1/token", "http://evil.example/token",
                           "ftp://127.0.0.1/token", "https://user@evil.example/", "/token", ""}) {
    realm_ = evil;
    const Status status = read(make_test_session(user()));
    ASSERT_FALSE(status.ok()) << evil;
    EXPECT_EQ(status.error().code, Code::unauthenticated) << evil;
  }
  EXPECT_EQ(tokens_given_, 0);
}

TEST(RealmAllowed, Table) {
  struct Case {
    const char* origin;
    const char* realm;
    bool allowed;
  };
  const Case kCases[] = {
      {"https://registry-1.docker.io", "https://auth.docker.io/token", true},
      {"https://reg.example", "http://reg.example/token", false},
      {"https://reg.example", "http://auth.example/token", false},
      {"https://reg.example", "https://127.0.0.1/token", false},
      {"https://reg.example", "http://localhost:8080/token", false},
      {"http://reg.local:5000", "http://reg.local:5001/token", true},
      {"http://reg.local:5000", "http://other.local/token", false},
      {"http://127.0.0.1:5000", "http://localhost:5001/token", true},
      {"http://127.0.0.1:5000", "https://auth.example/token", true},
      {"http://127.0.0.1:5000", "http://auth.example/token", false},
      {"https://reg.example", "https://a:b@auth.example/", false},
  };
  for (const Case& c : kCases) {
    EXPECT_EQ(realm_allowed(c.origin, c.realm), c.allowed) << c.origin << " " << c.realm;
  }
}

TEST_F(AuthTest, ManyReadsShareOneTokenRequest) {
  const TestSession test = make_test_session(user());
  EXPECT_TRUE(read(test).ok());
  test.scheduler->advance(1h);
  auto source = Repository(test.session, registry_.reference()).blobs();
  std::vector<std::shared_ptr<SinkProbe>> sinks;
  for (uint64_t i = 0; i < 20; ++i) {
    sinks.push_back(std::make_shared<SinkProbe>());
    source->read({.digest = digest_, .blob_size = 1000, .offset = i, .length = 10}, sinks.back());
  }
  for (auto& sink : sinks) EXPECT_TRUE(sink->wait().ok());
  EXPECT_EQ(tokens_given_, 2);
}

TEST_F(AuthTest, IdentityTokensArePosted) {
  registry_.set_fault([this](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    if (request.path == "/token" && request.method != "POST") return FakeResponse{.status = 400};
    return guard_door(request);
  });
  auto provider = std::make_shared<StaticCredentials>("", Credentials{"", "", "refresh&me"});
  EXPECT_TRUE(read(make_test_session(provider)).ok());
  ASSERT_EQ(token_requests_.size(), 1u);
  EXPECT_THAT(token_requests_[0].body, HasSubstr("refresh_token=refresh%26me"));
}

TEST(BasicAuth, IsSentToTheRegistryAndFailsClearly) {
  FakeRegistry registry;
  const oci::Digest digest = registry.add("content");
  std::string accepted = "Basic dXNlcjpwNHNz";
  registry.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    if (request.header("authorization") == accepted) return std::nullopt;
    return FakeResponse{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
  });
  const oci::Descriptor blob{.media_type = "x", .digest = digest, .size = 7};
  const TestSession test = make_test_session(user());
  const Repository good(test.session, registry.reference());
  EXPECT_EQ(*good.read_blob(blob, 100), "content");
  EXPECT_EQ(registry.server().requests().size(), 2u);
  EXPECT_EQ(*good.read_blob(blob, 100), "content");
  EXPECT_EQ(registry.server().requests().size(), 3u);

  const Repository nobody(make_test_session().session, registry.reference());
  auto refused = nobody.read_blob(blob, 100);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_THAT(refused.error().message, HasSubstr("credentials"));

  accepted = "changed";
  refused = good.read_blob(blob, 100);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, Code::unauthenticated);
  EXPECT_THAT(refused.error().message, Not(HasSubstr("p4ss")));
}

TEST(TokenAnswer, Shapes) {
  EXPECT_EQ(parse_token_answer(as_bytes(R"({"token":"a"})"))->lifetime, 60s);
  EXPECT_EQ(parse_token_answer(as_bytes(R"({"access_token":"a","expires_in":10})"))->lifetime, 10s);
  EXPECT_EQ(parse_token_answer(as_bytes(R"({"token":"a","expires_in":999999999999})"))->lifetime,
            86400s);
  for (const char* bad :
       {"", "[]", "{}", R"({"token":1})", R"({"token":"a b"})", R"({"token":"a","expires_in":-5})",
        R"({"token":"a","expires_in":"x"})"}) {
    EXPECT_FALSE(parse_token_answer(as_bytes(bad)).ok()) << bad;
  }
}

}  // namespace
}  // namespace pagein::registry
