// hosts.toml: how it is read, and how its hosts are asked.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "net/url.h"
#include "registry/hosts_file.h"
#include "registry/test_support.h"

namespace pagein::registry {
namespace {

using net::FakeRequest;
using net::FakeResponse;
using ::testing::HasSubstr;
using namespace std::chrono_literals;

RegistryHost registry_host() {
  RegistryHost out;
  out.origin = "https://reg.example";
  return out;
}

TEST(HostsFile, AsContainerdDocumentsIt) {
  const auto hosts = parse_hosts_file(R"(
server = "https://reg.example"
[host."https://z.example:5000"]
  capabilities = ["pull", "resolve"]
  ca = "ca.crt"
  client = [["/etc/c.cert", "c.key"]]
  dial_timeout = "1m30s"
  [host."https://z.example:5000".header]
    x-one = "a"
    x-two = ["b", "c"]
[host."http://a.example/prefix"]
  skip_verify = true
[host."https://b.example/v2/other"]
  override_path = true
)",
                                      "/certs", registry_host());
  ASSERT_TRUE(hosts.ok()) << hosts.error().message;
  ASSERT_EQ(hosts->size(), 4u);
  const RegistryHost& first = (*hosts)[0];
  EXPECT_EQ(first.origin, "https://z.example:5000") << "the file's order, not the alphabet's";
  EXPECT_EQ(first.path, "/v2");
  EXPECT_TRUE(first.mirror);
  EXPECT_TRUE(first.pull && first.resolve);
  EXPECT_FALSE(first.push);
  EXPECT_EQ(first.ca_files, std::vector<std::string>{"/certs/ca.crt"});
  EXPECT_EQ(first.tls->client_cert_file, "/etc/c.cert");
  EXPECT_EQ(first.tls->client_key_file, "/certs/c.key");
  EXPECT_EQ(first.dial_timeout, 90s);
  EXPECT_EQ(first.headers.find_all("x-two").size(), 2u);
  EXPECT_EQ((*hosts)[1].path, "/prefix/v2");
  EXPECT_EQ((*hosts)[1].tls->verify, net::TlsOptions::Verify::off);
  EXPECT_EQ((*hosts)[2].path, "/v2/other");
  EXPECT_FALSE((*hosts)[3].mirror);
  EXPECT_TRUE((*hosts)[3].push);
}

TEST(HostsFile, MistakesAreNamed) {
  for (const char* bad :
       {"[host", "host = 1", "[host.\"ftp://x\"]", "[host.\"x\"]\ncapabilities = [\"fly\"]",
        "[host.\"x\"]\nclient = 1", "[host.\"x\"]\nca = 1", "[host.\"x\"]\ndial_timeout = \"soon\"",
        "server = 1", "[host.\"x\"]\nskip_verify = \"no\"", "[host.\"http://u:p@x\"]"}) {
    const auto hosts = parse_hosts_file(bad, "/certs", registry_host());
    ASSERT_FALSE(hosts.ok()) << bad;
    EXPECT_THAT(hosts.error().message, HasSubstr("hosts.toml")) << bad;
  }
  EXPECT_EQ(parse_hosts_file("", "/", registry_host())->size(), 1u);
}

TEST(HostsFile, FoldersAsContainerdNamesThem) {
  EXPECT_EQ(host_folders("/c", "reg.example"),
            (std::vector<std::filesystem::path>{"/c/reg.example", "/c/_default"}));
  EXPECT_EQ(host_folders("/c", "reg.example:5000"),
            (std::vector<std::filesystem::path>{"/c/reg.example_5000_", "/c/reg.example:5000",
                                                "/c/_default"}));
}

TEST(HostHealthTest, RestsGrowAndAnAnswerEndsThem) {
  HostHealth health;
  const HostHealth::Time start{1h};
  health.failed("m", HostHealth::Failure::no_answer, start);
  health.failed("m", HostHealth::Failure::no_answer, start);  // at the same time: once
  EXPECT_TRUE(health.rests("m", start + 4s));
  EXPECT_FALSE(health.rests("m", start + 6s));
  health.failed("m", HostHealth::Failure::no_answer, start + 6s);
  EXPECT_TRUE(health.rests("m", start + 15s));
  health.answered("m");
  EXPECT_FALSE(health.rests("m", start + 7s));
  health.failed("m", HostHealth::Failure::wrong_bytes, start);
  health.answered("m");
  EXPECT_TRUE(health.rests("m", start + 1s)) << "an answer proves nothing";
}

// A registry and a mirror of it.
class MirrorTest : public ::testing::Test {
 protected:
  MirrorTest() : content_(pattern(100'000)), digest_(registry_.add(content_)) {
    mirror_.add(content_);
    make_session();
  }
  void make_session() {
    std::string host = registry_.reference().host();
    host.replace(host.find(':'), 1, "_");
    const std::string dir = dir_.path().string() + "/" + host + "_";
    EXPECT_TRUE(make_dirs(dir).ok());
    const std::string text = "[host.\"" + mirror_.server().url("") + "\"]\n";
    EXPECT_TRUE(replace_file(dir + "/hosts.toml", as_bytes(text)).ok());
    SessionOptions options;
    options.client = *net::Client::create();
    scheduler_ = std::make_shared<FakeScheduler>(options.client);
    options.scheduler = scheduler_;
    options.hosts_dir = dir_.path();
    options.mirror_patience = 1s;
    options.credentials = std::make_shared<StaticCredentials>(registry_.reference().host(),
                                                              Credentials{"user", "p4ss", ""});
    session_ = *Session::create(options);
    source_ = Repository(session_, registry_.reference()).blobs();
  }
  Status read(uint64_t offset, uint64_t length, ReadId* id = nullptr) {
    auto sink = std::make_shared<SinkProbe>();
    const ReadId read = source_->read(
        {.digest = digest_, .blob_size = content_.size(), .offset = offset, .length = length},
        sink);
    if (id != nullptr) *id = read;
    Status status = sink->wait();
    if (status.ok()) got_ = sink->bytes;
    return status;
  }
  bool right(uint64_t offset, uint64_t length) { return got_ == content_.substr(offset, length); }

  TempDir dir_ = *TempDir::make("hosts");
  FakeRegistry registry_;
  FakeRegistry mirror_;
  std::string content_;
  oci::Digest digest_;
  std::shared_ptr<FakeScheduler> scheduler_;
  std::shared_ptr<Session> session_;
  std::shared_ptr<BlobSource> source_;
  std::string got_;
};

TEST_F(MirrorTest, TheMirrorServesAndIsToldForWhom) {
  ASSERT_TRUE(read(10, 100).ok());
  EXPECT_TRUE(right(10, 100));
  EXPECT_TRUE(registry_.server().requests().empty());
  ASSERT_EQ(mirror_.server().requests().size(), 1u);
  EXPECT_EQ(mirror_.server().requests()[0].query,
            "ns=" + net::percent_encode(registry_.reference().host()));
}

TEST_F(MirrorTest, WhatTheMirrorHasNotTheRegistryGives) {
  mirror_.set_fault([](const FakeRequest&, int) { return FakeResponse{.status = 404}; });
  ASSERT_TRUE(read(10, 100).ok());
  ASSERT_TRUE(read(10, 100).ok());
  EXPECT_EQ(mirror_.server().requests().size(), 2u) << "that is no failure: it does not rest";
}

TEST_F(MirrorTest, AMirrorThatFailsRests) {
  mirror_.set_fault([](const FakeRequest&, int) { return FakeResponse{.status = 500}; });
  ASSERT_TRUE(read(10, 100).ok());
  ASSERT_TRUE(read(10, 100).ok());
  EXPECT_EQ(mirror_.server().requests().size(), 1u);
  EXPECT_TRUE(scheduler_->delays().empty()) << "nobody waited";
  scheduler_->advance(6s);
  mirror_.set_fault(nullptr);
  ASSERT_TRUE(read(10, 100).ok());
  EXPECT_EQ(mirror_.server().requests().size(), 2u);
}

TEST_F(MirrorTest, AStreamThatBreaksGoesOnAtTheRegistry) {
  mirror_.set_fault([this](const FakeRequest& request, int) {
    FakeResponse response = FakeRegistry::serve(content_, request);
    response.claimed_length = response.body.size();
    response.body.resize(response.body.size() / 2);
    response.end = FakeResponse::End::close;
    return std::optional(response);
  });
  ASSERT_TRUE(read(1000, 50'000).ok());
  EXPECT_TRUE(right(1000, 50'000));
  ASSERT_EQ(registry_.server().requests().size(), 1u);
  EXPECT_EQ(registry_.server().requests()[0].header("range"), "bytes=26000-50999");
}

TEST_F(MirrorTest, AMirrorThatHangsIsLeft) {
  // Head and nothing else.
  mirror_.set_fault([](const FakeRequest&, int) {
    return FakeResponse{
        .raw =
            "HTTP/1.1 206 P\r\nContent-Range: bytes 10-109/100000\r\nContent-Length: "
            "100\r\n\r\n"};
  });
  ASSERT_TRUE(read(10, 100).ok());
  EXPECT_TRUE(right(10, 100));
}

TEST_F(MirrorTest, WholeBlobsForRangesAreLeftToTheMirror) {
  mirror_.set_fault([this](const FakeRequest&, int) { return FakeResponse{.body = content_}; });
  ASSERT_TRUE(read(10, 100).ok());
  ASSERT_TRUE(read(20, 100).ok());
  EXPECT_EQ(mirror_.server().requests().size(), 1u) << "no more ranges while it loads";
  EXPECT_FALSE(source_->range_unsupported(digest_));
  ASSERT_TRUE(read(0, content_.size()).ok());
  EXPECT_EQ(mirror_.server().requests().size(), 2u) << "the whole may come from there";
}

TEST_F(MirrorTest, WrongBytesMakeItRest) {
  ReadId id = 0;
  ASSERT_TRUE(read(10, 100, &id).ok());
  source_->distrust(id);
  ASSERT_TRUE(read(10, 100).ok());
  EXPECT_EQ(mirror_.server().requests().size(), 1u);
  EXPECT_EQ(registry_.server().requests().size(), 1u);
}

TEST_F(MirrorTest, AMirrorGetsNoCredentialsOfTheRegistry) {
  const auto wants_login = [](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    if (!request.header("authorization").empty()) return std::nullopt;
    return FakeResponse{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
  };
  mirror_.set_fault(wants_login);
  registry_.set_fault(wants_login);
  ASSERT_TRUE(read(10, 100).ok());
  for (const FakeRequest& request : mirror_.server().requests()) {
    EXPECT_EQ(request.header("authorization"), "");
  }
}

TEST_F(MirrorTest, AManifestThatIsNotTheOneAskedForComesFromElsewhere) {
  const std::string manifest = R"({"schemaVersion":2,"mediaType":)"
                               R"("application/vnd.oci.image.index.v1+json","manifests":[]})";
  const oci::Digest digest = registry_.add(manifest);
  mirror_.set_fault([](const FakeRequest&, int) { return FakeResponse{.body = "{}"}; });
  const auto got = Repository(session_, registry_.reference()).get_manifest(digest);
  ASSERT_TRUE(got.ok()) << got.error().message;
  EXPECT_EQ(got->bytes, manifest);
}

}  // namespace
}  // namespace pagein::registry
