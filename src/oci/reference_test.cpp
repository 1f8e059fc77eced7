#include "oci/reference.h"

#include <gtest/gtest.h>

namespace pagein::oci {
namespace {

const std::string kHex(64, 'a');

TEST(Reference, NormalisesAsDockerDoes) {
  const std::pair<const char*, const char*> kCases[] = {
      {"debian", "docker.io/library/debian"},
      {"debian:12", "docker.io/library/debian:12"},
      {"team/app", "docker.io/team/app"},
      {"docker.io/debian", "docker.io/library/debian"},
      {"index.docker.io/library/debian", "docker.io/library/debian"},
      {"localhost/app", "localhost/app"},
      {"localhost:5000/app:1", "localhost:5000/app:1"},
      {"registry.example/a/b/c:v1.2-3_x", "registry.example/a/b/c:v1.2-3_x"},
      {"GHCR.io/a/b", "ghcr.io/a/b"},
      {"[::1]:5000/app", "[::1]:5000/app"},
      {"a.b/c__d/e-f--g", "a.b/c__d/e-f--g"},
  };
  for (const auto& [text, normal] : kCases) {
    auto reference = Reference::parse(text);
    ASSERT_TRUE(reference.ok()) << reference.error().message;
    EXPECT_EQ(reference->str(), normal);
    EXPECT_EQ(Reference::parse(reference->str())->str(), normal);
  }
}

TEST(Reference, TagAndDigestTogether) {
  auto reference = Reference::parse("debian:12@sha256:" + kHex);
  ASSERT_TRUE(reference.ok());
  EXPECT_EQ(reference->tag(), "12");
  EXPECT_EQ(reference->digest()->hex(), kHex);
  EXPECT_EQ(reference->identifier(), "sha256:" + kHex);
  EXPECT_EQ(reference->name(), "docker.io/library/debian");
  auto bare = Reference::parse("debian");
  EXPECT_EQ(bare->identifier(), "latest");
  EXPECT_FALSE(bare->tag());
  EXPECT_EQ(bare->with_default_tag().tag(), "latest");
  EXPECT_EQ(reference->with_tag("x")->str(), "docker.io/library/debian:x");
  EXPECT_FALSE(reference->with_tag("-x").ok());
}

TEST(Reference, RefusesWhatDockerRefuses) {
  const std::string kBad[] = {
      "",
      ":tag",
      "debian:",
      "debian@",
      "debian@sha256:abc",
      "debian@sha512:" + kHex + kHex,
      "Debian/x/Y",
      "Registry/app",
      "a//b",
      "a/",
      "/a",
      "a..b/c/d..e",
      "a___b",
      "a-/b",
      "host:99999/a",
      "host:/a",
      "host:abc/a",
      "-host.x/a",
      "ho..st/a",
      "[::1/a",
      "[]:5000/a",
      "a b",
      "a\nb",
      "https://a/b",
      "debian:" + std::string(129, 'x'),
      "a.b/" + std::string(300, 'a'),
      kHex,
      "debian:1@sha256:" + kHex + "@sha256:" + kHex,
      "../etc/passwd",
      "a.b/../c",
  };
  for (const std::string& bad : kBad) {
    auto reference = Reference::parse(bad);
    EXPECT_FALSE(reference.ok()) << bad << " -> " << reference->str();
    if (!reference.ok()) {
      EXPECT_EQ(reference.error().code, Code::invalid_argument);
      EXPECT_EQ(reference.error().message.find('\n'), std::string::npos);
    }
  }
}

TEST(Reference, ReferrersTag) {
  EXPECT_EQ(referrers_tag(*Digest::parse("sha256:" + kHex)), "sha256-" + kHex);
  EXPECT_TRUE(is_valid_tag("sha256-" + kHex));
}

}  // namespace
}  // namespace pagein::oci
