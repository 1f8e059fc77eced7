#include "node/config.h"

#include <gtest/gtest.h>

#include "node/trust.h"

namespace pagein::node {
namespace {

TEST(Config, EmptyTextGivesTheDefaults) {
  const Config config = parse_config("").value();
  EXPECT_EQ(config.root, "/var/lib/pagein");
  EXPECT_EQ(config.fetch.deadline, std::chrono::seconds(120));
  EXPECT_TRUE(config.trust.repositories.empty());
}

TEST(Config, ReadsEverySection) {
  const Config config = parse_config(R"(
root = "/data/pagein"
metrics_address = "127.0.0.1:9464"
[log]
level = "debug"
format = "json"
[trust]
repositories = ["registry.example/team/*", "registry.example/one"]
[registry]
plain_http = ["registry.lan:5000"]
[fetch]
deadline_seconds = 30
background = false
startup_pack = false
prefetch_flights = 4
[mount]
engine = "erofs-loop"
threads = 4
)")
                            .value();
  EXPECT_EQ(config.root, "/data/pagein");
  EXPECT_EQ(config.metrics.host, "127.0.0.1");
  EXPECT_EQ(config.log.format, log::Format::json);
  EXPECT_EQ(config.trust.repositories.size(), 2u);
  EXPECT_TRUE(config.registry.plain_http.contains("registry.lan:5000"));
  EXPECT_EQ(config.fetch.deadline, std::chrono::seconds(30));
  EXPECT_FALSE(config.fetch.background);
  EXPECT_FALSE(config.fetch.startup_pack);
  EXPECT_EQ(config.fetch.prefetch_flights, 4u);
  EXPECT_EQ(config.mount.threads, 4u);
  EXPECT_EQ(config.mount.engine, mount::EngineChoice::erofs_loop);
}

TEST(Config, AnEmptyPathOfCredentialsIsTheDefault) {
  EXPECT_EQ(parse_config("[registry]\ndocker_config = \"\"").value().registry.docker_config, "");
  EXPECT_FALSE(parse_config("[registry]\ndocker_config = \"config.json\"").ok());
}

TEST(Config, CredentialPluginsNeedTheirFolder) {
  const auto both = parse_config(R"([registry]
credential_files = ["/var/lib/kubelet/config.json"]
credential_provider_config = "/etc/plugins.yaml"
credential_provider_bin_dir = "/usr/lib/plugins"
)");
  ASSERT_TRUE(both.ok()) << both.error().message;
  EXPECT_EQ(both->registry.credential_files.front(), "/var/lib/kubelet/config.json");
  EXPECT_EQ(both->registry.credential_provider_bin_dir, "/usr/lib/plugins");
  EXPECT_FALSE(parse_config("[registry]\ncredential_provider_config = \"/etc/x.yaml\"").ok());
  EXPECT_FALSE(parse_config("[registry]\ncredential_files = [\"config.json\"]").ok());
}

TEST(Config, ErrorsNameLineAndKey) {
  auto message = [](std::string_view text) { return parse_config(text).error().message; };
  EXPECT_EQ(message("\nroot = 5"), "line 2: root must be a text");
  EXPECT_EQ(message("[fetch]\ndeadline_seconds = 0"),
            "line 2: fetch.deadline_seconds must be a whole number from 1 to 86400");
  EXPECT_EQ(message("[fetch]\ndeadlin_seconds = 5"),
            "line 2: fetch.deadlin_seconds is not a known setting");
  EXPECT_EQ(message("root = \"var\""), "line 1: root must be an absolute path");
  EXPECT_NE(message("[trust]\nrepositories = [\"r.example/a*\"]").find("host/prefix/*"),
            std::string::npos);
  EXPECT_FALSE(parse_config("a = [").ok());
}

TEST(Config, TheMetricsAddressIsHostAndPort) {
  const Config config = parse_config("metrics_address = \"[::1]:9464\"").value();
  EXPECT_EQ(config.metrics.host, "::1");
  EXPECT_EQ(config.metrics.port, 9464);
  EXPECT_EQ(parse_config("metrics_address = \"\"").value().metrics.host, "");
  for (const std::string bad :
       {"foo", ":9464", "host:", "host:0", "host:65536", "host:12x", "[::1]"}) {
    EXPECT_FALSE(parse_config("metrics_address = \"" + bad + "\"").ok()) << bad;
  }
}

TEST(Trust, PatternsMatchWholePathElements) {
  const TrustPolicy policy({"r.example/team/*", "r.example/one"});
  auto trusts = [&](std::string_view text) {
    return policy.trusts(oci::Reference::parse(text).value());
  };
  EXPECT_TRUE(trusts("r.example/team/app:1"));
  EXPECT_TRUE(trusts("r.example/team/sub/app"));
  EXPECT_TRUE(trusts("r.example/one:latest"));
  EXPECT_FALSE(trusts("r.example/team2/app"));
  EXPECT_FALSE(trusts("r.example/one/more"));
  EXPECT_FALSE(trusts("other.example/team/app"));
  EXPECT_FALSE(TrustPolicy({}).trusts(oci::Reference::parse("r.example/one").value()));
}

}  // namespace
}  // namespace pagein::node
