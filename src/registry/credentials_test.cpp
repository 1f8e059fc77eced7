// Where credentials come from: helpers, plugins, files, secrets handed over;
// and that several are tried in turn.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>

#include "registry/credential_helper.h"
#include "registry/credential_sources.h"
#include "registry/docker_config.h"
#include "registry/go_duration.h"
#include "registry/kubelet_credentials.h"
#include "registry/program.h"
#include "registry/test_support.h"

namespace pagein::registry {
namespace {

using namespace std::chrono_literals;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::filesystem::path add_program(const TempDir& dir, const std::string& name,
                                  const std::string& script) {
  const std::filesystem::path path = dir.path() / name;
  EXPECT_TRUE(replace_file(path, as_bytes("#!/bin/sh\n" + script), 0755).ok());
  return path;
}

std::vector<std::string> users(const Result<std::vector<Credentials>>& found) {
  std::vector<std::string> out;
  if (!found.ok()) return {"error: " + found.error().message};
  for (const Credentials& each : *found) out.push_back(each.username);
  return out;
}

// PATH with our programs, for one test.
class WithPath {
 public:
  explicit WithPath(const std::filesystem::path& dir) : old_(std::getenv("PATH")) {
    ::setenv("PATH", (dir.string() + ":" + old_).c_str(), 1);
  }
  ~WithPath() { ::setenv("PATH", old_.c_str(), 1); }

 private:
  std::string old_;
};

TEST(ProgramTest, GivesInputAndReadsOutput) {
  const std::string big(300'000, 'x');
  auto result = run_program(
      {.argv = {"sh", "-c", "cat; echo $WHO; exit 3"}, .env = {"WHO=me"}, .input = big});
  ASSERT_TRUE(result.ok()) << result.error().message;
  EXPECT_EQ(result->exit_code, 3);
  EXPECT_EQ(result->output, big + "me\n");
  // One that does not read what it is given.
  EXPECT_EQ(run_program({.argv = {"true"}, .env = {}, .input = big})->exit_code, 0);
}

TEST(ProgramTest, HangsTalksTooMuchOrIsNotThere) {
  EXPECT_EQ(
      run_program({.argv = {"sleep", "60"}, .env = {}, .input = "", .timeout = 1s}).error().code,
      Code::timeout);
  EXPECT_EQ(
      run_program(
          {.argv = {"sh", "-c", "exec >&- ; sleep 60"}, .env = {}, .input = "", .timeout = 1s})
          .error()
          .code,
      Code::timeout);
  EXPECT_EQ(run_program({.argv = {"yes"}, .env = {}, .input = ""}).error().code, Code::exhausted);
  EXPECT_EQ(run_program({.argv = {"there-is-no-such"}, .env = {}, .input = ""}).error().code,
            Code::not_found);
}

TEST(CredentialHelperTest, IsAskedForTheHost) {
  const TempDir dir = *TempDir::make("helper");
  const WithPath path(dir.path());
  add_program(dir, "docker-credential-one",
              "read host; case $host in\n"
              "quay.io) echo '{\"ServerURL\":\"\",\"Username\":\"u\",\"Secret\":\"s3cret\"}';;\n"
              "ghcr.io) echo '{\"Username\":\"<token>\",\"Secret\":\"idt\"}';;\n"
              "broken) echo '{'; ;;\n"
              "https://index.docker.io/v1/) echo '{\"Username\":\"hub\",\"Secret\":\"x\"}';;\n"
              "*) echo 'credentials not found in native keychain'; exit 1;; esac\n");
  EXPECT_EQ(ask_credential_helper("one", "quay.io")->password, "s3cret");
  EXPECT_EQ(ask_credential_helper("one", "ghcr.io")->identity_token, "idt");
  EXPECT_EQ(ask_credential_helper("one", "docker.io")->username, "hub");
  EXPECT_TRUE(ask_credential_helper("one", "other")->empty());
  EXPECT_FALSE(ask_credential_helper("one", "broken").ok());
  EXPECT_EQ(ask_credential_helper("../one", "quay.io").error().code, Code::invalid_argument);
  EXPECT_EQ(ask_credential_helper("missing", "quay.io").error().code, Code::not_found);

  const std::string config =
      R"({"credHelpers":{"quay.io":"one"},"auths":{"quay.io":{"username":"file","password":"p"},)"
      R"("quay.io/team":{"username":"team","password":"p"}}})";
  ASSERT_TRUE(replace_file(dir.path() / "config.json", as_bytes(config)).ok());
  DockerConfigCredentials file(dir.path() / "config.json");
  EXPECT_THAT(users(file.get("quay.io/team/app")), ElementsAre("u", "team", "file"));
  EXPECT_THAT(users(file.get("other.example/app")), ElementsAre());
  EXPECT_THAT((*file.get("quay.io/x"))[0].source, HasSubstr("docker-credential-one"));
}

TEST(KubeletPluginTest, ImagesThatMatch) {
  EXPECT_TRUE(image_matches("*.dkr.ecr.*.amazonaws.com", "1.dkr.ecr.eu-1.amazonaws.com/app"));
  EXPECT_TRUE(image_matches("registry.io:8080/path", "registry.io:8080/path/app"));
  EXPECT_TRUE(image_matches("app*.k8s.io", "apps.k8s.io/x"));
  EXPECT_TRUE(image_matches("https://gcr.io", "gcr.io/x"));
  EXPECT_FALSE(image_matches("*.io", "a.b.io/x"));
  EXPECT_FALSE(image_matches("*.k8s.io", "k8s.io/x"));
  EXPECT_FALSE(image_matches("registry.io", "registry.io:8080/path"));
  EXPECT_FALSE(image_matches("registry.io/path", "registry.io/other"));
  EXPECT_FALSE(image_matches("", "registry.io/other"));
}

TEST(KubeletPluginTest, Durations) {
  EXPECT_EQ(parse_go_duration("1h30m"), 90min);
  EXPECT_EQ(parse_go_duration("1.5s"), 1500ms);
  EXPECT_EQ(parse_go_duration("300ms"), 300ms);
  EXPECT_EQ(parse_go_duration("0"), 0ms);
  for (const char* bad : {"", "5", "h", "-1s", "1x", "1..2s", "1s2"}) {
    EXPECT_FALSE(parse_go_duration(bad)) << bad;
  }
}

class PluginTest : public ::testing::Test {
 protected:
  PluginTest() { write_config("Registry", "10m"); }
  void write_config(const std::string& key_type, const std::string& duration) {
    add_program(
        dir_, "ecr",
        "echo called >> '" + log().string() + "'\ncat >> '" + log().string() +
            "'\n"
            "echo '{\"kind\":\"CredentialProviderResponse\",\"apiVersion\":"
            "\"credentialprovider.kubelet.k8s.io/v1\",\"cacheKeyType\":\"" +
            key_type + "\",\"cacheDuration\":\"" + duration +
            "\",\"auth\":{\"*.ecr.example\":{\"username\":\"AWS\",\"password\":\"'$1$PW'\"},"
            "\"other.example\":{\"username\":\"no\",\"password\":\"no\"}}}'\n");
    const std::string config =
        "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\nproviders:\n"
        "- name: ecr\n  matchImages: ['*.ecr.example']\n  defaultCacheDuration: 12h\n"
        "  apiVersion: credentialprovider.kubelet.k8s.io/v1\n  args: [arg]\n"
        "  env: [{name: PW, value: secret}]\n";
    ASSERT_TRUE(replace_file(dir_.path() / "config.yaml", as_bytes(config)).ok());
  }
  std::filesystem::path log() const { return dir_.path() / "log"; }
  size_t calls() const {
    const std::string text = read_file(log()).ok() ? *read_file(log()) : "";
    size_t count = 0;
    for (size_t at = 0; (at = text.find("called", at)) != std::string::npos; ++at) ++count;
    return count;
  }
  KubeletCredentials::Options options() {
    return {.config = dir_.path() / "config.yaml", .bin_dir = dir_.path(), .now = [this] {
              return now_;
            }};
  }

  TempDir dir_ = *TempDir::make("plugins");
  net::Clock::time_point now_ = net::Clock::now();
};

TEST_F(PluginTest, AnswersAreKeptForAsLongAsTheySay) {
  KubeletCredentials credentials(options());
  const auto found = credentials.get("1.ecr.example/app");
  ASSERT_TRUE(found.ok()) << found.error().message;
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ(found->front().username, "AWS");
  EXPECT_EQ(found->front().password, "argsecret");
  EXPECT_THAT(found->front().source, Not(HasSubstr("secret")));
  EXPECT_THAT(*read_file(log()), HasSubstr("\"image\":\"1.ecr.example/app\""));
  EXPECT_THAT(users(credentials.get("1.ecr.example/else")), ElementsAre("AWS"));
  EXPECT_EQ(calls(), 1u);  // by registry
  EXPECT_THAT(users(credentials.get("2.ecr.example/app")), ElementsAre("AWS"));
  EXPECT_EQ(calls(), 2u);
  EXPECT_THAT(users(credentials.get("quay.io/app")), ElementsAre());
  EXPECT_EQ(calls(), 2u);
  now_ += 11min;
  EXPECT_THAT(users(credentials.get("1.ecr.example/app")), ElementsAre("AWS"));
  EXPECT_EQ(calls(), 3u);
  credentials.forget("1.ecr.example/app");  // too young
  static_cast<void>(credentials.get("1.ecr.example/app"));
  EXPECT_EQ(calls(), 3u);
  now_ += 2min;
  credentials.forget("1.ecr.example/app");
  static_cast<void>(credentials.get("1.ecr.example/app"));
  EXPECT_EQ(calls(), 4u);
}

TEST_F(PluginTest, NotKeptWhereTheyLastNoTime) {
  write_config("Image", "0s");
  KubeletCredentials credentials(options());
  EXPECT_THAT(users(credentials.get("1.ecr.example/app")), ElementsAre("AWS"));
  EXPECT_THAT(users(credentials.get("1.ecr.example/app")), ElementsAre("AWS"));
  EXPECT_EQ(calls(), 2u);
}

TEST_F(PluginTest, WhatIsWrongIsSaid) {
  add_program(dir_, "ecr", "echo no; exit 1\n");
  KubeletCredentials credentials(options());
  EXPECT_THAT(credentials.get("1.ecr.example/app").error().message, HasSubstr("exit code 1"));
  for (const char* bad :
       {"", "[", "kind: X", "kind: CredentialProviderConfig\nproviders: [{name: ../x}]",
        "kind: CredentialProviderConfig\nproviders: [{name: x, apiVersion: y}]"}) {
    EXPECT_EQ(parse_credential_plugins(bad).error().code, Code::corrupt_input) << bad;
  }
}

TEST(MemoryCredentialsTest, LongestFirstOverAllSecrets) {
  MemoryCredentials secrets;
  ASSERT_TRUE(
      secrets.put("ns/a", R"({"auths":{"r.example":{"username":"a","password":"p"}}})").ok());
  ASSERT_TRUE(
      secrets.put("ns/b", R"({"auths":{"r.example/team":{"username":"b","password":"p"}}})").ok());
  EXPECT_EQ(secrets.put("ns/c", "{").error().code, Code::corrupt_input);
  EXPECT_THAT(users(secrets.get("r.example/team/app")), ElementsAre("b", "a"));
  EXPECT_THAT(secrets.names(), ElementsAre("ns/a", "ns/b"));
  EXPECT_TRUE(secrets.remove("ns/b"));
  EXPECT_FALSE(secrets.remove("ns/b"));
  EXPECT_THAT(users(secrets.get("r.example/team/app")), ElementsAre("a"));
}

// A registry with Basic authentication that knows one user.
class SeveralTest : public ::testing::Test {
 protected:
  SeveralTest() {
    digest_ = registry_.add("content");
    registry_.set_fault(
        [this](const net::FakeRequest& request, int) -> std::optional<net::FakeResponse> {
          if (request.header("authorization") == "Basic YjpwYg==") return std::nullopt;  // b:pb
          return net::FakeResponse{.status = 401,
                                   .headers = {{"WWW-Authenticate", "Basic realm=\"r\""}}};
        });
  }
  TestSession session(const std::vector<std::string>& names) {
    std::vector<std::shared_ptr<CredentialProvider>> chain;
    for (const std::string& name : names) {
      chain.push_back(std::make_shared<StaticCredentials>(
          "", Credentials{name, "p" + name, "", "the login of " + name}));
    }
    return make_test_session(std::make_shared<ChainedCredentials>(chain));
  }
  oci::Descriptor descriptor() const {
    oci::Descriptor out;
    out.digest = digest_;
    out.size = 7;
    return out;
  }

  FakeRegistry registry_;
  oci::Digest digest_;
};

TEST_F(SeveralTest, AreTriedInTurnAndRemembered) {
  const TestSession test = session({"a", "b", "c"});
  const Repository app(test.session, registry_.reference());
  auto content = app.read_blob(descriptor(), 100);
  ASSERT_TRUE(content.ok()) << content.error().message;
  const size_t before = registry_.server().requests().size();
  EXPECT_EQ(before, 3u);  // anonymous, a, b
  EXPECT_TRUE(app.read_blob(descriptor(), 100).ok());
  EXPECT_EQ(registry_.server().requests().size(), before + 1);

  auto sink = std::make_shared<SinkProbe>();
  const TestSession other = session({"a", "b"});
  const Repository again(other.session, registry_.reference());
  again.blobs()->read({.digest = digest_, .blob_size = 7, .offset = 1, .length = 3}, sink);
  EXPECT_TRUE(sink->wait().ok());
  EXPECT_EQ(sink->bytes, "ont");
}

TEST_F(SeveralTest, RefusalNamesWhatWasTriedAndNoSecret) {
  const TestSession test = session({"a", "c"});
  const Repository app(test.session, registry_.reference());
  const auto content = app.read_blob(descriptor(), 100);
  ASSERT_FALSE(content.ok());
  EXPECT_EQ(content.error().code, Code::unauthenticated);
  EXPECT_THAT(content.error().message, HasSubstr("the login of a, the login of c"));
  EXPECT_THAT(content.error().message, Not(HasSubstr("pa")));
  EXPECT_EQ(registry_.server().requests().size(), 3u);
}

}  // namespace
}  // namespace pagein::registry
