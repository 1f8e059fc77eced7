// The folder's pure parsers: challenges, ranges, Retry-After, Docker's config,
// locations, base64.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/file.h"
#include "registry/base64.h"
#include "registry/call.h"
#include "registry/challenge.h"
#include "registry/content_range.h"
#include "registry/docker_config.h"
#include "registry/http_errors.h"
#include "registry/image_store.h"
#include "registry/retry.h"

namespace pagein::registry {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace std::chrono_literals;

TEST(Challenges, AsRegistriesSendThem) {
  auto parsed = parse_challenges(
      R"(Bearer realm="https://auth.docker.io/token",service="registry.docker.io",)"
      R"(scope="repository:library/debian:pull,push")");
  ASSERT_TRUE(parsed.ok());
  ASSERT_EQ(parsed->size(), 1u);
  EXPECT_EQ((*parsed)[0].scheme, "bearer");
  EXPECT_EQ((*parsed)[0].param("realm"), "https://auth.docker.io/token");
  EXPECT_EQ((*parsed)[0].param("scope"), "repository:library/debian:pull,push");
}

TEST(Challenges, SeveralInOneField) {
  auto parsed = parse_challenges(
      R"(Negotiate, Basic realm="a \"b\", c" , charset=utf-8, NTLM abc==, BEARER Realm=x)");
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  ASSERT_EQ(parsed->size(), 4u);
  EXPECT_EQ((*parsed)[0].scheme, "negotiate");
  EXPECT_EQ((*parsed)[1].param("realm"), "a \"b\", c");
  EXPECT_EQ((*parsed)[1].param("charset"), "utf-8");
  EXPECT_EQ((*parsed)[2].scheme, "ntlm");
  EXPECT_EQ((*parsed)[3].param("realm"), "x");
}

TEST(Challenges, HostileOnes) {
  for (const std::string& bad :
       {std::string("Bearer realm=\"unterminated"), std::string("Bearer realm=\"x\\"),
        std::string("=x"), std::string("Bearer@realm=x"), std::string(20'000, 'a'),
        std::string("\0x", 2)}) {
    EXPECT_FALSE(parse_challenges(bad).ok()) << bad.substr(0, 40);
  }
  std::string many;
  for (int i = 0; i < 100; ++i) many += "a,";
  EXPECT_FALSE(parse_challenges(many).ok());
  EXPECT_TRUE(parse_challenges("")->empty());
  EXPECT_TRUE(parse_challenges(" , ,")->empty());
  // The first value of a name counts.
  EXPECT_EQ((*parse_challenges("Bearer realm=a,realm=b"))[0].param("realm"), "a");
}

TEST(ContentRange, Forms) {
  auto range = parse_content_range("bytes 0-99/1000");
  ASSERT_TRUE(range);
  EXPECT_EQ(range->first, 0u);
  EXPECT_EQ(range->last, 99u);
  EXPECT_EQ(range->total, 1000u);
  EXPECT_FALSE(parse_content_range("bytes 5-5/*")->total);
  for (const char* bad :
       {"", "bytes", "bytes ", "bytes 0-99", "bytes 9-5/10", "bytes */10", "bytes 0-10/10",
        "bytes -1-5/10", "bytes 0-99/1000 ", "bytes=0-9/10", "bytes 0-18446744073709551615/*",
        "bytes 0-99999999999999999999/*", "bytes 0 - 9/10", "bytes 0-9/+10"}) {
    EXPECT_FALSE(parse_content_range(bad)) << bad;
  }
}

TEST(UploadRange, Forms) {
  EXPECT_EQ(parse_upload_range("0-99"), 100u);
  EXPECT_EQ(parse_upload_range("bytes=0-99"), 100u);
  for (const char* bad : {"", "1-99", "0-", "-", "0-x", "0-18446744073709551615"}) {
    EXPECT_FALSE(parse_upload_range(bad)) << bad;
  }
}

TEST(RetryAfter, SecondsAndDates) {
  EXPECT_EQ(parse_retry_after("7", 0), 7s);
  EXPECT_EQ(parse_retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 40), 60s);
  EXPECT_EQ(parse_retry_after("Thu, 01 Jan 1970 00:01:40 GMT", 400), 0s);
  EXPECT_EQ(parse_retry_after("999999999999999999999", 0), 86400s * 365);
  for (const char* bad : {"", "-1", "soon", "7 s", "1.5"}) EXPECT_FALSE(parse_retry_after(bad, 0));
}

TEST(RetryPolicyTest, BacksOffWithinItsCap) {
  const RetryPolicy policy;
  EXPECT_EQ(policy.delay(1, 0.0, std::nullopt), 100ms);
  EXPECT_EQ(policy.delay(1, 1.0, std::nullopt), 200ms);
  EXPECT_EQ(policy.delay(3, 1.0, std::nullopt), 800ms);
  EXPECT_EQ(policy.delay(1000, 1.0, std::nullopt), 10s);
  EXPECT_EQ(policy.delay(1, 0.0, 5s), 5s);
  EXPECT_EQ(policy.delay(1, 0.0, 3600s), 60s);
}

constexpr std::string_view kConfig = R"({
  "auths": {
    "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
    "ghcr.io": {"auth": "Z2g6YTpi"},
    "ghcr.io/team/app": {"username": "app", "password": "x"},
    "empty.example": {}
  },
  "credHelpers": {"gcr.io": "gcloud"},
  "credsStore": "desktop"
})";

TEST(DockerConfigTest, LongestMatchWins) {
  auto config = DockerConfig::parse(as_bytes(kConfig));
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->find("docker.io/library/debian").front().username, "hub");
  EXPECT_EQ(config->find("ghcr.io/team/app").front().username, "app");
  EXPECT_EQ(config->find("ghcr.io/team/app/sub").front().username, "app");
  EXPECT_EQ(config->find("ghcr.io/team/application").front().username, "gh");
  EXPECT_EQ(config->find("ghcr.io/other").front().password, "a:b");
  EXPECT_TRUE(config->find("ghcr.io.evil.example/x").empty());
  EXPECT_TRUE(config->find("empty.example/x").empty());
  EXPECT_EQ(config->helper("gcr.io/x"), "gcloud");
  EXPECT_EQ(config->helper("quay.io/x"), "desktop");
}

TEST(DockerConfigTest, BrokenFiles) {
  for (const char* bad :
       {"", "[]", R"({"auths":[]})", R"({"auths":{"a":1}})", R"({"auths":{"a":{"auth":"!!!"}}})",
        R"({"auths":{"a":{"auth":"YQ=="}}})", R"({"credHelpers":{"a":1}})"}) {
    auto config = DockerConfig::parse(as_bytes(bad));
    EXPECT_FALSE(config.ok()) << bad;
  }
}

TEST(DockerConfigTest, FileIsReadAgainWhenItChanges) {
  auto dir = *TempDir::make("docker-config");
  DockerConfigCredentials credentials(dir.path() / "config.json");
  EXPECT_TRUE(credentials.get("docker.io/x")->empty());
  ASSERT_TRUE(replace_file(dir.path() / "config.json", as_bytes(kConfig)).ok());
  EXPECT_EQ(credentials.get("docker.io/x")->front().username, "hub");
  ASSERT_TRUE(replace_file(dir.path() / "config.json", as_bytes("{}")).ok());
  EXPECT_TRUE(credentials.get("docker.io/x")->empty());
  ASSERT_TRUE(replace_file(dir.path() / "config.json", as_bytes("{")).ok());
  EXPECT_FALSE(credentials.get("docker.io/x").ok());
}

TEST(Base64, RoundTrip) {
  for (const char* text : {"", "a", "ab", "abc", "abcd"}) {
    EXPECT_EQ(base64_decode(base64_encode(text)), text);
  }
  EXPECT_EQ(base64_encode("user:p4ss"), "dXNlcjpwNHNz");
  EXPECT_EQ(base64_decode("YWI"), "ab");
  for (const char* bad : {"a", "ab!d", "a b="}) EXPECT_FALSE(base64_decode(bad)) << bad;
}

TEST(Locations, Parse) {
  auto kind = [](const char* text) { return parse_location(text)->kind; };
  EXPECT_EQ(kind("debian"), Location::Kind::registry);
  EXPECT_EQ(kind("docker://ghcr.io/a/b:1"), Location::Kind::registry);
  EXPECT_EQ(kind("oci:/tmp/x"), Location::Kind::oci_layout);
  auto layout = parse_location("oci:/tmp/x:tag");
  EXPECT_EQ(layout->path, "/tmp/x");
  EXPECT_EQ(layout->name, "tag");
  EXPECT_EQ(layout->str(), "oci:/tmp/x:tag");
  auto archive = parse_location("docker-archive:a.tar:reg:5000/b:1");
  EXPECT_EQ(archive->path, "a.tar");
  EXPECT_EQ(archive->name, "reg:5000/b:1");
  for (const char* bad :
       {"", "oci:", "oci:dir:", "docker-archive:", "https://docker.io/x", "A B"}) {
    EXPECT_FALSE(parse_location(bad).ok()) << bad;
  }
}

TEST(HttpErrors, SayWhatTheRegistrySaid) {
  const Error error =
      error_of_response("GET https://h/x", 429,
                        R"({"errors":[{"code":"TOOMANYREQUESTS","message":"slow\u0007 down"}]})");
  EXPECT_EQ(error.code, Code::unavailable);
  EXPECT_THAT(error.message, HasSubstr("TOOMANYREQUESTS: slow  down"));
  EXPECT_EQ(error_of_response("x", 404, "<html>").code, Code::not_found);
  EXPECT_THAT(error_of_response("x", 404, "<html>").message, Not(HasSubstr("html")));
}

TEST(Locations, OfUploadsAndPages) {
  Endpoint https{.host = "r.example", .origin = "https://r.example", .tls = {}, .headers = {}};
  EXPECT_EQ(*follow_location(https, "https://r.example/v2/a/blobs/uploads/", "/v2/x?_state=1"),
            "https://r.example/v2/x?_state=1");
  EXPECT_EQ(*follow_location(https, "https://r.example/v2/", "http://r.example/v2/x"),
            "https://r.example/v2/x");
  EXPECT_EQ(*follow_location(https, "https://r.example/v2/", "https://s3.example/x"),
            "https://s3.example/x");
  EXPECT_FALSE(follow_location(https, "https://r.example/v2/", "gopher://x").ok());
  net::Headers headers;
  headers.add("Link", "</v2/a/tags/list?n=2&last=b>; rel=\"next\"");
  EXPECT_EQ(next_link(headers), "/v2/a/tags/list?n=2&last=b");
  net::Headers other;
  other.add("Link", "<x>; rel=\"prev\"");
  EXPECT_EQ(next_link(other), "");
}

}  // namespace
}  // namespace pagein::registry
