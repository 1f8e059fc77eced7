#include "snapshotter/filter.h"

#include <gtest/gtest.h>

namespace pagein::snapshotter {
namespace {

Info sample() {
  Info info;
  info.name = "default/7/sha256:12";
  info.parent = "default/6/sha256:34";
  info.kind = Kind::committed;
  info.labels = {
      {"containerd.io/snapshot.ref", "sha256:12"}, {"a.b.c", "x"}, {"l", "a,b \"q\" é\n"}};
  return info;
}

bool matches(const std::string& filter) {
  const auto parsed = Filter::parse({filter});
  EXPECT_TRUE(parsed.ok()) << filter << ": " << parsed.error().message;
  return parsed.ok() && parsed->matches(sample());
}

TEST(Filter, MatchesAsContainerdDoes) {
  for (const char* yes : {
           "",
           "name",
           "kind==committed",
           "kind!=active",
           "name==default/7/sha256:12",
           "name == default/7/sha256:12",
           "labels.a.b.c",
           "labels.\"a.b.c\"==x",
           "labels.\"containerd.io/snapshot.ref\"==sha256:12,parent==\"default/6/sha256:34\"",
           "labels.l==\"a,b \\\"q\\\" \\u00e9\\n\"",
           "labels.l==\"a,b \\\"q\\\" \\xc3\\xa9\\012\"",
           "labels.nothing!=x",
           "nothing!=x",
           "labels.nothing~=/^$/",
           "name~=sha256:[0-9]+$",
           "name~=/^default\\/7/",
           "name~=|/7/|",
           "name~=\"7\"",
           "labels.\"a\".\"b\".c",
       }) {
    EXPECT_TRUE(matches(yes)) << yes;
  }
  for (const char* no : {"kind==active", "name==default", "labels.nothing", "nothing",
                         "labels.nothing==\"\"", "name,kind==view", "name~=^7$"}) {
    EXPECT_FALSE(matches(no)) << no;
  }
}

TEST(Filter, AnyOfSeveral) {
  const auto filter = Filter::parse({"kind==view", "labels.a.b.c==x"});
  ASSERT_TRUE(filter.ok());
  EXPECT_TRUE(filter->matches(sample()));
  EXPECT_TRUE(Filter::parse({})->matches(sample()));
  EXPECT_FALSE(Filter::parse({"kind==view", "name==x"})->matches(sample()));
}

TEST(Filter, BadOnesAreRefused) {
  for (const std::string bad : {"name==",
                                "==x",
                                "name=x",
                                "name===x",
                                "name=~x",
                                ",",
                                "name,",
                                "name==a,,kind",
                                "name.",
                                ".name",
                                "name==/x/",
                                "/name/==x",
                                "name==\"open",
                                "name==\"\\q\"",
                                "name==\"\\x4\"",
                                "name==\"\\400\"",
                                "name==\"\\U00110000\"",
                                "name~=(",
                                "name kind",
                                "name==x ",
                                "na-me==x",
                                "name==\"a\\",
                                "name==\"a\nb\""}) {
    const auto parsed = Filter::parse({bad});
    ASSERT_FALSE(parsed.ok()) << bad;
    EXPECT_EQ(parsed.error().code, Code::invalid_argument);
  }
  EXPECT_FALSE(Filter::parse({std::string("name==\0x", 8)}).ok());
}

TEST(Filter, Caps) {
  EXPECT_FALSE(Filter::parse(std::vector<std::string>(kMaxFilters + 1, "name")).ok());
  EXPECT_FALSE(Filter::parse({"name==" + std::string(kMaxFilterBytes, 'x')}).ok());
  std::string many = "name";
  for (size_t i = 0; i < kMaxSelectors; ++i) many += ",name";
  EXPECT_FALSE(Filter::parse({many}).ok());
  EXPECT_FALSE(Filter::parse({"name~=(((a{1,100}){1,100}){1,100})"}).ok());
}

}  // namespace
}  // namespace pagein::snapshotter
