#include "registry/repository.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "oci/media_types.h"
#include "registry/image_store.h"
#include "registry/real_registry.h"
#include "registry/test_support.h"

namespace pagein::registry {
namespace {

using net::FakeRequest;
using net::FakeResponse;
using oci::media_type::kOciManifest;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::UnorderedElementsAre;

// A manifest over blobs that need not exist where nobody checks.
std::string manifest_of(const std::string& text,
                        const std::optional<oci::Descriptor>& subject = {}) {
  oci::Manifest manifest;
  manifest.config = oci::empty_descriptor();
  manifest.layers = {};
  manifest.subject = subject;
  if (subject) manifest.artifact_type = std::string(oci::media_type::kAcceleratedArtifact);
  manifest.annotations["text"] = text;
  return oci::serialize(manifest);
}

oci::Descriptor descriptor_of(const std::string& manifest) {
  oci::Descriptor out;
  out.media_type = std::string(kOciManifest);
  out.digest = oci::Digest::of(as_bytes(manifest));
  out.size = manifest.size();
  return out;
}

TEST(Repository, ResolvesByHeadAndVerifiesWhatItGets) {
  FakeRegistry registry;
  const std::string manifest = manifest_of("x");
  const oci::Descriptor wanted = descriptor_of(manifest);
  std::string served = manifest;
  bool head_works = true;
  registry.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    FakeResponse response{.headers = {{"Content-Type", std::string(kOciManifest) + "; charset=x"}},
                          .body = served};
    if (request.method == "HEAD" && head_works) {
      response.headers.emplace_back("Docker-Content-Digest", wanted.digest.str());
    }
    return response;
  });
  const Repository repository(make_test_session().session, registry.reference());
  auto resolved = repository.resolve("latest");
  ASSERT_TRUE(resolved.ok()) << resolved.error().message;
  EXPECT_EQ(*resolved, wanted);
  EXPECT_EQ(registry.server().requests().size(), 1u);
  EXPECT_THAT(registry.server().requests()[0].header("accept"), HasSubstr(kOciManifest));
  head_works = false;
  EXPECT_EQ(*repository.resolve("latest"), wanted);
  EXPECT_EQ(repository.get_manifest(wanted.digest)->bytes, manifest);
  served = manifest_of("y");
  auto wrong = repository.get_manifest(wanted.digest);
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().code, Code::corrupt_input);
  for (const char* bad : {"", "../x", "a/b", "a?b", "sha256:x"}) {
    EXPECT_EQ(repository.get_manifest(bad).error().code, Code::invalid_argument) << bad;
  }
}

TEST(Repository, BlobsAreVerifiedAndCapped) {
  FakeRegistry registry;
  const oci::Digest digest = registry.add("hello");
  const Repository repository(make_test_session().session, registry.reference());
  EXPECT_EQ(*repository.read_blob({.media_type = "x", .digest = digest, .size = 5}, 5), "hello");
  EXPECT_EQ(repository.read_blob({.media_type = "x", .digest = digest, .size = 5}, 4).error().code,
            Code::exhausted);
  EXPECT_FALSE(repository.read_blob({.media_type = "x", .digest = digest, .size = 4}, 9).ok());
  EXPECT_EQ(*repository.blob_size(digest), 5u);
  EXPECT_FALSE(*repository.blob_exists(oci::Digest::of({})));
  registry.set_fault([](const FakeRequest&, int) { return FakeResponse{.body = "hellO"}; });
  EXPECT_EQ(repository.read_blob({.media_type = "x", .digest = digest, .size = 5}, 5).error().code,
            Code::corrupt_input);
}

TEST(Repository, RetriesAndTellsWhatTheRegistrySaid) {
  FakeRegistry registry;
  const oci::Digest digest = registry.add("hello");
  const TestSession test = make_test_session();
  const Repository repository(test.session, registry.reference());
  registry.set_fault([](const FakeRequest&, int count) -> std::optional<FakeResponse> {
    if (count == 1) return FakeResponse{.status = 502};
    if (count == 2) {
      return FakeResponse{.body = "x", .claimed_length = 5, .end = FakeResponse::End::reset};
    }
    return std::nullopt;
  });
  const oci::Descriptor blob{.media_type = "x", .digest = digest, .size = 5};
  EXPECT_EQ(*repository.read_blob(blob, 5), "hello");
  EXPECT_EQ(test.scheduler->delays().size(), 2u);
  registry.set_fault([](const FakeRequest&, int) {
    return FakeResponse{.status = 500,
                        .body = R"({"errors":[{"code":"UNKNOWN","message":"disk full"}]})"};
  });
  auto failed = repository.read_blob(blob, 5);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, Code::unavailable);
  EXPECT_THAT(failed.error().message, HasSubstr("disk full"));
}

TEST(Repository, ReferrersComeFromTheApiByPages) {
  FakeRegistry registry;
  auto list = [](char digit) {
    oci::ImageIndex index;
    index.manifests = {{.media_type = std::string(kOciManifest),
                        .digest = *oci::Digest::parse("sha256:" + std::string(64, digit)),
                        .size = 1,
                        .artifact_type = digit == '3' ? "other" : "wanted"}};
    return oci::serialize(index);
  };
  registry.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    EXPECT_THAT(request.path, HasSubstr("/referrers/sha256:"));
    FakeResponse response{.headers = {{"Content-Type", std::string(oci::media_type::kOciIndex)}}};
    if (request.query.find("page=2") != std::string::npos) {
      response.body = list('2');
      response.headers.emplace_back("Link", "<" + request.path + "?page=3>; rel=\"next\"");
    } else if (request.query.find("page=3") != std::string::npos) {
      response.body = list('3');
    } else {
      response.body = list('1');
      response.headers.emplace_back("Link", "<" + request.path + "?page=2>; rel=\"next\"");
    }
    return response;
  });
  const Repository repository(make_test_session().session, registry.reference());
  EXPECT_EQ(repository.referrers(oci::Digest::of({}))->size(), 3u);
  EXPECT_EQ(repository.referrers(oci::Digest::of({}), "wanted")->size(), 2u);
}

// An upload endpoint that loses a connection in the middle of a chunk.
TEST(Upload, GoesOnAtTheOffsetThatTheRegistryReports) {
  FakeRegistry registry;
  Mutex mutex;
  std::string stored;
  std::string committed;
  int patches = 0;
  registry.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    MutexLock lock(mutex);
    const std::string location = "/v2/app/blobs/uploads/1?state=" + std::to_string(stored.size());
    const std::string range = "0-" + std::to_string(stored.empty() ? 0 : stored.size() - 1);
    if (request.method == "POST") {
      return FakeResponse{.status = 202, .headers = {{"Location", location}}};
    }
    if (request.method == "GET") {
      return FakeResponse{.status = 204, .headers = {{"Location", location}, {"Range", range}}};
    }
    if (request.method == "PATCH") {
      EXPECT_EQ(request.header("content-range"),
                std::to_string(stored.size()) + "-" +
                    std::to_string(stored.size() + request.body.size() - 1));
      if (++patches == 2) {  // half of it arrives, then the line breaks
        stored += request.body.substr(0, request.body.size() / 2);
        return FakeResponse{.claimed_length = 10, .end = FakeResponse::End::reset};
      }
      stored += request.body;
      return FakeResponse{.status = 202,
                          .headers = {{"Location", "/v2/app/blobs/uploads/1?state=" +
                                                       std::to_string(stored.size())}}};
    }
    if (request.method == "PUT") {
      committed = stored + request.body;
      EXPECT_THAT(request.query, HasSubstr("digest=sha256:"));
      return FakeResponse{.status = 201};
    }
    return std::nullopt;
  });
  const Repository repository(make_test_session().session, registry.reference());
  auto upload = repository.start_upload({.mode = UploadMode::chunked, .chunk_size = 100'000});
  ASSERT_TRUE(upload.ok());
  const std::string content = pattern(450'000);
  for (size_t at = 0; at < content.size(); at += 33'333) {
    ASSERT_TRUE((*upload)->write(as_bytes(std::string_view(content).substr(at, 33'333))).ok());
  }
  auto blob = (*upload)->commit(oci::Digest::of(as_bytes(content)));
  ASSERT_TRUE(blob.ok()) << blob.error().message;
  EXPECT_EQ(blob->size, content.size());
  EXPECT_TRUE(committed == content);
}

// As docker-registry 2.8 does: a broken chunk ends the upload for good.
TEST(Upload, StartsOverFromItsSpoolWhereTheRegistryLostIt) {
  FakeRegistry registry;
  Mutex mutex;
  std::string stored;
  int patches = 0;
  bool lost = false;
  registry.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    MutexLock lock(mutex);
    if (request.method == "POST") {
      stored.clear();
      lost = false;
    } else if (lost) {
      return FakeResponse{.status = 404};
    }
    if (request.method == "PATCH" && (++patches == 3 || patches == 6)) {
      lost = true;
      return FakeResponse{.claimed_length = 10, .end = FakeResponse::End::reset};
    }
    stored += request.body;
    return FakeResponse{.status = request.method == "PUT" ? 201 : 202,
                        .headers = {{"Location", "/v2/app/blobs/uploads/1"}}};
  });
  const Repository repository(make_test_session().session, registry.reference());
  const std::string content = pattern(450'000);
  auto upload = [&](const std::filesystem::path& spool) -> Status {
    auto writer = repository.start_upload(
        {.mode = UploadMode::chunked, .chunk_size = 100'000, .spool_dir = spool});
    EXPECT_TRUE(writer.ok());
    RETURN_IF_ERROR((*writer)->write(as_bytes(content)));
    const auto blob = (*writer)->commit(std::nullopt);
    return blob.ok() ? Status() : Status(blob.error());
  };
  auto dir = *TempDir::make("spool");
  const Status spooled = upload(dir.path());
  ASSERT_TRUE(spooled.ok()) << spooled.error().message;
  EXPECT_TRUE(stored == content);
  EXPECT_TRUE(std::filesystem::is_empty(dir.path()));
  patches = 0;
  const Status failed = upload({});
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, Code::unavailable);
}

TEST(Upload, AWrongDigestIsNeverCommitted) {
  FakeRegistry registry;
  std::atomic<int> puts{0};
  std::atomic<int> deletes{0};
  registry.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    if (request.method == "PUT") ++puts;
    if (request.method == "DELETE") ++deletes;
    return FakeResponse{.status = 202, .headers = {{"Location", "/v2/app/blobs/uploads/1"}}};
  });
  const Repository repository(make_test_session().session, registry.reference());
  {
    auto upload = repository.start_upload({.mode = UploadMode::chunked, .chunk_size = 65'536});
    ASSERT_TRUE((*upload)->write(as_bytes(pattern(200'000))).ok());
    EXPECT_EQ((*upload)->commit(oci::Digest::of({})).error().code, Code::corrupt_input);
  }
  EXPECT_EQ(puts, 0);
  EXPECT_EQ(deletes, 1);
}

TEST(Upload, OtherHostsGetNoCredentials) {
  FakeRegistry registry;
  registry.set_fault([&](const FakeRequest& request, int) -> std::optional<FakeResponse> {
    const bool home = request.header("host") == registry.server().host();
    if (home && request.header("authorization").empty()) {
      return FakeResponse{.status = 401, .headers = {{"WWW-Authenticate", "Basic realm=r"}}};
    }
    EXPECT_EQ(request.header("authorization").empty(), !home);
    if (request.method == "PUT") return FakeResponse{.status = 201};
    return FakeResponse{.status = 202,
                        .headers = {{"Location", registry.server().other_url("/upload?sig=1")}}};
  });
  auto login = std::make_shared<StaticCredentials>("", Credentials{"u", "p", ""});
  const Repository repository(make_test_session(login).session, registry.reference());
  auto upload = repository.start_upload();
  ASSERT_TRUE((*upload)->write(as_bytes("x")).ok());
  EXPECT_TRUE((*upload)->commit(std::nullopt).ok());
}

// The rest against the registry that Debian ships.
class RealRegistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    registry_ = RealRegistry::start(RealRegistry::Login::none);
    if (registry_ == nullptr) GTEST_SKIP() << "docker-registry is not installed or does not start";
    session_ = make_test_session().session;
  }
  Repository repository(const std::string& name) const {
    return {session_, *oci::Reference::make(registry_->host(), name)};
  }
  static oci::Descriptor upload(const Repository& repository, const std::string& content,
                                const UploadOptions& options) {
    auto writer = repository.start_upload(options);
    EXPECT_TRUE(writer.ok());
    for (size_t at = 0; at < content.size(); at += 300'000) {
      EXPECT_TRUE((*writer)->write(as_bytes(std::string_view(content).substr(at, 300'000))).ok());
    }
    auto blob = (*writer)->commit(oci::Digest::of(as_bytes(content)));
    EXPECT_TRUE(blob.ok()) << blob.error().message;
    return blob.ok() ? *blob : oci::Descriptor();
  }
  std::unique_ptr<RealRegistry> registry_;
  std::shared_ptr<Session> session_;
};

TEST_F(RealRegistryTest, BlobsGoUpEveryWayAndComeBack) {
  const Repository app = repository("team/app");
  const std::string content = pattern(3'000'000);
  const oci::Digest digest = oci::Digest::of(as_bytes(content));
  const UploadOptions kWays[] = {
      {.mode = UploadMode::chunked, .chunk_size = 700'000},
      {.mode = UploadMode::automatic},
      {.mode = UploadMode::monolithic, .size = content.size(), .digest = digest},
  };
  for (const UploadOptions& way : kWays) {
    const std::string name = "way" + std::to_string(static_cast<int>(way.mode));
    const oci::Descriptor blob = upload(repository(name), content, way);
    EXPECT_EQ(blob.digest, digest);
    EXPECT_TRUE(*repository(name).read_blob(blob, content.size()) == content);
    EXPECT_FALSE(*app.blob_exists(digest));
    auto sink = std::make_shared<SinkProbe>();
    repository(name).blobs()->read(
        {.digest = digest, .blob_size = content.size(), .offset = 1'234'567, .length = 89'012},
        sink);
    ASSERT_TRUE(sink->wait().ok());
    EXPECT_TRUE(sink->bytes == content.substr(1'234'567, 89'012));
  }
  EXPECT_TRUE(*app.mount_blob(digest, "way0"));
  EXPECT_TRUE(*app.blob_exists(digest));
  EXPECT_FALSE(*app.mount_blob(oci::Digest::of({}), "way0"));
  EXPECT_EQ(*app.blob_size(digest), content.size());
}

TEST_F(RealRegistryTest, EmptyAndSmallBlobs) {
  const Repository app = repository("app");
  EXPECT_TRUE(app.push_blob("", "x").ok());
  auto blob = app.push_blob("{}", oci::media_type::kEmpty);
  ASSERT_TRUE(blob.ok()) << blob.error().message;
  EXPECT_EQ(*blob, oci::empty_descriptor());
  EXPECT_TRUE(app.push_blob("{}", oci::media_type::kEmpty).ok());
}

TEST_F(RealRegistryTest, ManifestsTagsAndReferrers) {
  const Repository app = repository("app");
  ASSERT_TRUE(app.push_blob("{}", oci::media_type::kEmpty).ok());
  const std::string manifest = manifest_of("base");
  auto pushed = app.push_manifest(manifest, kOciManifest, "v1");
  ASSERT_TRUE(pushed.ok()) << pushed.error().message;
  ASSERT_TRUE(app.push_manifest(manifest, kOciManifest, "v2").ok());
  EXPECT_EQ(*app.resolve("v1"), *pushed);
  EXPECT_EQ(*app.resolve(pushed->digest.str()), *pushed);
  EXPECT_EQ(app.get_manifest("v2")->bytes, manifest);
  EXPECT_EQ(app.resolve("v3").error().code, Code::not_found);

  EXPECT_TRUE(app.referrers(pushed->digest)->empty());
  std::vector<oci::Digest> made;
  for (const char* text : {"one", "two"}) {
    auto referrer = app.push_referrer(manifest_of(text, *pushed), kOciManifest);
    ASSERT_TRUE(referrer.ok()) << referrer.error().message;
    made.push_back(referrer->digest);
  }
  auto found = app.referrers(pushed->digest, oci::media_type::kAcceleratedArtifact);
  ASSERT_TRUE(found.ok()) << found.error().message;
  ASSERT_EQ(found->size(), 2u);
  EXPECT_THAT(made, UnorderedElementsAre((*found)[0].digest, (*found)[1].digest));
  EXPECT_EQ((*found)[0].annotations.at("text"), "one");
  EXPECT_TRUE(app.referrers(pushed->digest, "application/other")->empty());

  EXPECT_THAT(*app.tags(), UnorderedElementsAre("v1", "v2", oci::referrers_tag(pushed->digest)));
  EXPECT_TRUE(app.delete_manifest(pushed->digest.str()).ok());
  EXPECT_EQ(app.resolve("v1").error().code, Code::not_found);
}

TEST(RealRegistryLogin, HtpasswdIsAskedFor) {
  auto registry = RealRegistry::start(RealRegistry::Login::htpasswd);
  if (registry == nullptr) GTEST_SKIP() << "docker-registry is not installed or does not start";
  const oci::Reference name = *oci::Reference::make(registry->host(), "app");
  auto login = [&](const char* password) {
    auto provider = std::make_shared<StaticCredentials>(
        registry->host(), Credentials{RealRegistry::kUser, password, ""});
    return Repository(make_test_session(provider).session, name);
  };
  EXPECT_TRUE(login(RealRegistry::kPassword).push_blob("x", "y").ok());
  for (const Repository& refused :
       {login("wrong-pass"), Repository(make_test_session().session, name)}) {
    auto result = refused.push_blob("x", "y");
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, Code::unauthenticated);
    EXPECT_THAT(result.error().message, Not(HasSubstr("wrong-pass")));
  }
}

TEST_F(RealRegistryTest, AnImageGoesFromOneRepositoryToAnotherAndToALayout) {
  const Repository app = repository("app");
  const std::string layer = pattern(500'000);
  const oci::Descriptor blob = upload(app, layer, {});
  auto dir = *TempDir::make("layout");
  const Location from = *parse_location(registry_->host() + "/app:v1");
  auto source = *open_source(from, session_);
  EXPECT_EQ(source->resolve().error().code, Code::not_found);
  for (const std::string& to :
       {registry_->host() + "/copy:v1", "oci:" + dir.path().string() + "/layout:v1"}) {
    auto destination = open_destination(*parse_location(to), session_);
    ASSERT_TRUE(destination.ok()) << destination.error().message;
    ASSERT_TRUE(copy_blob(*source, **destination, blob).ok());
    EXPECT_TRUE(*(*destination)->has_blob(blob));
    EXPECT_TRUE(*(*destination)->as_source()->read_blob(blob, layer.size()) == layer);
    ASSERT_TRUE(put_blob(**destination, oci::kEmptyBlob, oci::media_type::kEmpty).ok());
    auto manifest =
        (*destination)->put_manifest(manifest_of("x"), kOciManifest, (*destination)->tag());
    ASSERT_TRUE(manifest.ok()) << manifest.error().message;
    EXPECT_EQ((*destination)->as_source()->resolve()->digest, manifest->digest);
    auto referrer = (*destination)->put_referrer(manifest_of("r", *manifest), kOciManifest);
    ASSERT_TRUE(referrer.ok()) << referrer.error().message;
    auto found = (*destination)->as_source()->referrers(manifest->digest, "");
    ASSERT_TRUE(found.ok());
    ASSERT_EQ(found->size(), 1u);
    EXPECT_EQ((*found)[0].digest, referrer->digest);
  }
}

}  // namespace
}  // namespace pagein::registry
