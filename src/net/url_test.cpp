#include "net/url.h"

#include <gtest/gtest.h>

namespace pagein::net {
namespace {

TEST(Url, PartsAndOrigin) {
  auto url = parse_url("HTTPS://Example.COM:443/a%20b/?x=1#frag");
  ASSERT_TRUE(url.ok());
  EXPECT_EQ(url->origin(), "https://example.com");
  EXPECT_EQ(url->path, "/a%20b/");
  EXPECT_EQ(url->query, "x=1");
  EXPECT_EQ(url->str(), "https://example.com/a%20b/?x=1");
  EXPECT_EQ(url->loggable(), "https://example.com/a%20b/");
  EXPECT_EQ(parse_url("http://h:5000")->origin(), "http://h:5000");
  EXPECT_EQ(parse_url("http://[::1]:5000/x")->origin(), "http://[::1]:5000");
}

TEST(Url, RefusesWhatWeNeverFetch) {
  for (const char* bad : {"", "example.com", "file:///etc/passwd", "ftp://h/", "http://u@h/",
                          "http://u:p@h/", "http://", "http://h:99999/", "http://h/\n", "/v2/"}) {
    EXPECT_FALSE(parse_url(bad).ok()) << bad;
  }
}

TEST(Url, ResolvesLocations) {
  const Url base = *parse_url("https://h/v2/a/blobs/uploads/1?state=x");
  EXPECT_EQ(resolve_url(base, "/v2/b")->str(), "https://h/v2/b");
  EXPECT_EQ(resolve_url(base, "2?y")->str(), "https://h/v2/a/blobs/uploads/2?y");
  EXPECT_EQ(resolve_url(base, "http://other:1/x?s=1")->str(), "http://other:1/x?s=1");
  EXPECT_EQ(resolve_url(base, "//cdn/x")->str(), "https://cdn/x");
  EXPECT_FALSE(resolve_url(base, "javascript:1").ok());
  EXPECT_FALSE(resolve_url(base, "https://a:b@h/").ok());
}

TEST(Url, Loopback) {
  for (const char* host : {"localhost", "localhost:5000", "LOCALHOST", "127.0.0.1", "127.9.8.7:1",
                           "[::1]", "[::1]:5000", "::1"}) {
    EXPECT_TRUE(is_loopback_host(host)) << host;
  }
  for (const char* host : {"127.0.0.1.example.com", "128.0.0.1", "localhost.example.com", "127.1",
                           "127.0.0.1.", "[::2]", "example.com", "", "0x7f.0.0.1"}) {
    EXPECT_FALSE(is_loopback_host(host)) << host;
  }
}

TEST(Url, PercentEncoding) { EXPECT_EQ(percent_encode("a:b/c d~"), "a%3Ab%2Fc%20d~"); }

}  // namespace
}  // namespace pagein::net
