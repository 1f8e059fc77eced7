// The snapshots API over gRPC, for the tests: as containerd's proxy client
// calls it.
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "containerd/grpc_code.h"
#include "containerd/services/snapshots.grpc.pb.h"
#include "snapshotter/remote_backend.h"
#include "snapshotter/server.h"
#include "snapshotter/snapshotter.h"
#include "snapshotter/test_api.h"

namespace pagein::snapshotter {

namespace {

namespace api = ::containerd::services::snapshots::v1;

Error error_of(const grpc::Status& status) {
  return Error(containerd::from_grpc_code(status.error_code()), status.error_message());
}

Time time_of(const google::protobuf::Timestamp& time) {
  return Time(std::chrono::seconds(time.seconds()) + std::chrono::nanoseconds(time.nanos()));
}

Info info_of(const api::Info& info) {
  Info out;
  out.name = info.name();
  out.parent = info.parent();
  out.kind = static_cast<Kind>(info.kind());
  out.created = time_of(info.created_at());
  out.updated = time_of(info.updated_at());
  out.labels = Labels(info.labels().begin(), info.labels().end());
  return out;
}

template <typename Response>
std::vector<Mount> mounts_of(const Response& response) {
  std::vector<Mount> mounts;
  for (const auto& mount : response.mounts()) {
    mounts.push_back(
        {mount.type(), mount.source(), {mount.options().begin(), mount.options().end()}});
  }
  return mounts;
}

class GrpcApi final : public Api {
 public:
  GrpcApi(std::unique_ptr<Server> server, const std::filesystem::path& socket)
      : server_(std::move(server)),
        stub_(api::Snapshots::NewStub(
            grpc::CreateChannel("unix:" + socket.string(), grpc::InsecureChannelCredentials()))) {}

  Result<std::vector<Mount>> prepare(const std::string& key, const std::string& parent,
                                     const Labels& labels) override {
    api::PrepareSnapshotRequest request;
    fill(request, key, parent, labels);
    api::PrepareSnapshotResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->Prepare(&context, request, &response);
    if (!status.ok()) return error_of(status);
    return mounts_of(response);
  }

  Result<std::vector<Mount>> view(const std::string& key, const std::string& parent,
                                  const Labels& labels) override {
    api::ViewSnapshotRequest request;
    fill(request, key, parent, labels);
    api::ViewSnapshotResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->View(&context, request, &response);
    if (!status.ok()) return error_of(status);
    return mounts_of(response);
  }

  Result<std::vector<Mount>> mounts(const std::string& key) override {
    api::MountsRequest request;
    request.set_key(key);
    api::MountsResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->Mounts(&context, request, &response);
    if (!status.ok()) return error_of(status);
    return mounts_of(response);
  }

  Status commit(const std::string& name, const std::string& key, const Labels& labels) override {
    api::CommitSnapshotRequest request;
    request.set_name(name);
    request.set_key(key);
    request.mutable_labels()->insert(labels.begin(), labels.end());
    google::protobuf::Empty response;
    grpc::ClientContext context;
    return status_of(stub_->Commit(&context, request, &response));
  }

  Status remove(const std::string& key) override {
    api::RemoveSnapshotRequest request;
    request.set_key(key);
    google::protobuf::Empty response;
    grpc::ClientContext context;
    return status_of(stub_->Remove(&context, request, &response));
  }

  Result<Info> stat(const std::string& key) override {
    api::StatSnapshotRequest request;
    request.set_key(key);
    api::StatSnapshotResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->Stat(&context, request, &response);
    if (!status.ok()) return error_of(status);
    return info_of(response.info());
  }

  Result<Info> update(const Info& info, const std::vector<std::string>& paths) override {
    api::UpdateSnapshotRequest request;
    request.mutable_info()->set_name(info.name);
    request.mutable_info()->set_parent(info.parent);
    request.mutable_info()->mutable_labels()->insert(info.labels.begin(), info.labels.end());
    for (const std::string& path : paths) request.mutable_update_mask()->add_paths(path);
    api::UpdateSnapshotResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->Update(&context, request, &response);
    if (!status.ok()) return error_of(status);
    return info_of(response.info());
  }

  Result<std::vector<Info>> list(const std::vector<std::string>& filters) override {
    api::ListSnapshotsRequest request;
    for (const std::string& filter : filters) request.add_filters(filter);
    grpc::ClientContext context;
    const auto reader = stub_->List(&context, request);
    std::vector<Info> infos;
    api::ListSnapshotsResponse response;
    while (reader->Read(&response)) {
      for (const api::Info& info : response.info()) infos.push_back(info_of(info));
    }
    const grpc::Status status = reader->Finish();
    if (!status.ok()) return error_of(status);
    return infos;
  }

  Result<Usage> usage(const std::string& key) override {
    api::UsageRequest request;
    request.set_key(key);
    api::UsageResponse response;
    grpc::ClientContext context;
    const grpc::Status status = stub_->Usage(&context, request, &response);
    if (!status.ok()) return error_of(status);
    return Usage{static_cast<uint64_t>(response.size()), static_cast<uint64_t>(response.inodes())};
  }

  Status cleanup() override {
    api::CleanupRequest request;
    google::protobuf::Empty response;
    grpc::ClientContext context;
    return status_of(stub_->Cleanup(&context, request, &response));
  }

 private:
  template <typename Request>
  static void fill(Request& request, const std::string& key, const std::string& parent,
                   const Labels& labels) {
    request.set_snapshotter("test");
    request.set_key(key);
    request.set_parent(parent);
    request.mutable_labels()->insert(labels.begin(), labels.end());
  }
  static Status status_of(const grpc::Status& status) {
    return status.ok() ? Status() : Status(error_of(status));
  }

  std::unique_ptr<Server> server_;
  std::unique_ptr<api::Snapshots::Stub> stub_;
};

}  // namespace

std::unique_ptr<Api> grpc_api(Snapshotter& snapshotter, const std::filesystem::path& dir) {
  const std::filesystem::path socket = dir / "snapshots.sock";
  auto server = Server::start(snapshotter, {.socket = socket});
  if (!server.ok()) {
    ADD_FAILURE() << server.error().message;
    return nullptr;
  }
  return std::make_unique<GrpcApi>(*std::move(server), socket);
}

TEST(Server, SocketIsPrivateReplacesAStaleOneAndGoesAtTheEnd) {
  const auto dir = TempDir::make("pagein-server-");
  ASSERT_TRUE(dir.ok());
  const auto snapshotter = Snapshotter::open({.root = dir->path() / "root"});
  ASSERT_TRUE(snapshotter.ok()) << snapshotter.error().message;
  const std::filesystem::path socket = dir->path() / "s.sock";
  write_text(socket, "stale");
  {
    const auto server = Server::start(**snapshotter, {.socket = socket});
    ASSERT_TRUE(server.ok()) << server.error().message;
    struct stat st;
    ASSERT_EQ(::stat(socket.c_str(), &st), 0);
    EXPECT_TRUE(S_ISSOCK(st.st_mode));
    EXPECT_EQ(st.st_mode & 0777, 0600u);
  }
  EXPECT_FALSE(std::filesystem::exists(socket));
}

TEST(Server, ASuccessorsSocketStays) {
  const auto dir = TempDir::make("pagein-server-");
  ASSERT_TRUE(dir.ok());
  const auto snapshotter = Snapshotter::open({.root = dir->path() / "root"});
  ASSERT_TRUE(snapshotter.ok());
  const std::filesystem::path socket = dir->path() / "s.sock";
  auto first = Server::start(**snapshotter, {.socket = socket});
  ASSERT_TRUE(first.ok());
  const auto second = Server::start(**snapshotter, {.socket = socket});
  ASSERT_TRUE(second.ok()) << second.error().message;
  first->reset();
  EXPECT_TRUE(std::filesystem::exists(socket));
}

TEST(Server, AnImpossibleSocketIsAnError) {
  const auto dir = TempDir::make("pagein-server-");
  ASSERT_TRUE(dir.ok());
  const auto snapshotter = Snapshotter::open({.root = dir->path() / "root"});
  ASSERT_TRUE(snapshotter.ok());
  EXPECT_FALSE(Server::start(**snapshotter, {.socket = dir->path() / "no" / "s.sock"}).ok());
}

// Declines every layer, but only once `expected` requests have come.
class Gate final : public RemoteBackend {
 public:
  explicit Gate(size_t expected) : expected_(expected) {}
  Result<std::optional<std::string>> prepare_layer(const LayerRequest&) override {
    std::unique_lock lock(mutex_);
    if (++waiting_ >= expected_) open_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    return std::optional<std::string>();
  }
  void open() {
    const std::lock_guard lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  Result<std::vector<std::string>> mount_run(const RunRequest&) override {
    return Error(Code::unsupported, "gate");
  }
  void release(const std::string&) override {}
  Result<Usage> usage(const std::string&) override { return Usage{}; }
  void remove_layer(const std::string&, const std::string&) override {}

 private:
  const size_t expected_;
  std::mutex mutex_;
  std::condition_variable changed_;
  size_t waiting_ = 0;
  bool open_ = false;
};

Status prepare_ref(Api& client, int number) {
  const std::string text = std::to_string(number);
  const auto prepared = client.prepare("key-" + text, "", {{kSnapshotRefLabel, "sha256:" + text}});
  return prepared.ok() ? Status() : Status(prepared.error());
}

TEST(Server, AHundredSlowPreparesAtOnce) {
  constexpr int kCalls = 100;
  const auto dir = TempDir::make("pagein-server-");
  ASSERT_TRUE(dir.ok());
  Gate gate(kCalls);
  const auto snapshotter = Snapshotter::open({.root = dir->path() / "root", .backend = &gate});
  ASSERT_TRUE(snapshotter.ok());
  const auto client = grpc_api(**snapshotter, dir->path());
  ASSERT_NE(client, nullptr);
  std::atomic<int> prepared = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < kCalls; ++i) {
    threads.emplace_back([&, i] { prepared += prepare_ref(*client, i).ok(); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(prepared, kCalls);
}

TEST(Server, BeyondTheCapCallsAreRefusedNotStuck) {
  const auto dir = TempDir::make("pagein-server-");
  ASSERT_TRUE(dir.ok());
  Gate gate(1000);
  const auto snapshotter = Snapshotter::open({.root = dir->path() / "root", .backend = &gate});
  ASSERT_TRUE(snapshotter.ok());
  const std::filesystem::path socket = dir->path() / "s.sock";
  auto server = Server::start(**snapshotter, {.socket = socket, .max_threads = 8});
  ASSERT_TRUE(server.ok());
  GrpcApi client(*std::move(server), socket);
  std::atomic<int> refused = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 20; ++i) {
    threads.emplace_back([&, i] {
      const Status status = prepare_ref(client, i);
      if (status.ok()) return;
      EXPECT_EQ(status.error().code, Code::exhausted) << status.error().message;
      if (++refused == 10) gate.open();  // the others are waiting inside
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_GE(refused, 10);
  EXPECT_TRUE(client.list({}).ok());
}

TEST(Server, AListLargerThanOneMessageArrivesWhole) {
  const auto dir = TempDir::make("pagein-server-");
  ASSERT_TRUE(dir.ok());
  const auto snapshotter = Snapshotter::open({.root = dir->path() / "root"});
  ASSERT_TRUE(snapshotter.ok());
  const auto client = grpc_api(**snapshotter, dir->path());
  ASSERT_NE(client, nullptr);
  Labels labels;
  for (int i = 0; i < 10; ++i) labels["label-" + std::to_string(i)] = std::string(4000, 'x');
  for (int i = 0; i < 230; ++i) {
    ASSERT_TRUE(client->view("view-" + std::to_string(1000 + i), "", labels).ok());
  }
  const auto infos = client->list();
  ASSERT_TRUE(infos.ok()) << infos.error().message;
  ASSERT_EQ(infos->size(), 230u);
  EXPECT_EQ(infos->back().name, "view-1229");
  EXPECT_EQ(infos->back().labels, labels);
}

}  // namespace pagein::snapshotter
