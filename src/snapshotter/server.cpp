#include "snapshotter/server.h"

#include <grpcpp/resource_quota.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "containerd/grpc_code.h"
#include "containerd/services/snapshots.grpc.pb.h"
#include "snapshotter/snapshotter.h"

namespace pagein::snapshotter {

namespace {

namespace api = ::containerd::services::snapshots::v1;
using google::protobuf::Empty;
using google::protobuf::Timestamp;

constexpr size_t kInfosPerMessage = 100;
// Labels are long: a message stays far below the client's limit (4 to 16 MiB).
constexpr size_t kBytesPerMessage = 1 << 20;
constexpr std::chrono::seconds kDrain{5};

grpc::Status grpc_status(const Error& error) {
  return grpc::Status(static_cast<grpc::StatusCode>(containerd::to_grpc_code(error.code)),
                      error.message);
}
template <typename T>
grpc::Status grpc_status(const Result<T>& result) {
  return result.ok() ? grpc::Status::OK : grpc_status(result.error());
}

Labels labels_of(const google::protobuf::Map<std::string, std::string>& map) {
  return Labels(map.begin(), map.end());
}

void put_time(Time time, Timestamp* out) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  out->set_seconds(seconds.time_since_epoch().count());
  out->set_nanos(static_cast<int32_t>((time - seconds).count()));
}

void put_info(const Info& info, api::Info* out) {
  out->set_name(info.name);
  out->set_parent(info.parent);
  out->set_kind(static_cast<api::Kind>(info.kind));
  put_time(info.created, out->mutable_created_at());
  put_time(info.updated, out->mutable_updated_at());
  out->mutable_labels()->insert(info.labels.begin(), info.labels.end());
}

// For every response that has `repeated Mount mounts`.
template <typename Response>
grpc::Status put_mounts(const Result<std::vector<Mount>>& mounts, Response* response) {
  if (!mounts.ok()) return grpc_status(mounts.error());
  for (const Mount& mount : *mounts) {
    ::containerd::types::Mount* out = response->add_mounts();
    out->set_type(mount.type);
    out->set_source(mount.source);
    for (const std::string& option : mount.options) out->add_options(option);
  }
  return grpc::Status::OK;
}

class Service final : public api::Snapshots::Service {
 public:
  explicit Service(Snapshotter& snapshotter) : snapshotter_(snapshotter) {}

  grpc::Status Prepare(grpc::ServerContext*, const api::PrepareSnapshotRequest* request,
                       api::PrepareSnapshotResponse* response) override {
    return put_mounts(
        snapshotter_.prepare(request->key(), request->parent(), labels_of(request->labels())),
        response);
  }

  grpc::Status View(grpc::ServerContext*, const api::ViewSnapshotRequest* request,
                    api::ViewSnapshotResponse* response) override {
    return put_mounts(
        snapshotter_.view(request->key(), request->parent(), labels_of(request->labels())),
        response);
  }

  grpc::Status Mounts(grpc::ServerContext*, const api::MountsRequest* request,
                      api::MountsResponse* response) override {
    return put_mounts(snapshotter_.mounts(request->key()), response);
  }

  grpc::Status Commit(grpc::ServerContext*, const api::CommitSnapshotRequest* request,
                      Empty*) override {
    return grpc_status(
        snapshotter_.commit(request->name(), request->key(), labels_of(request->labels())));
  }

  grpc::Status Remove(grpc::ServerContext*, const api::RemoveSnapshotRequest* request,
                      Empty*) override {
    return grpc_status(snapshotter_.remove(request->key()));
  }

  grpc::Status Stat(grpc::ServerContext*, const api::StatSnapshotRequest* request,
                    api::StatSnapshotResponse* response) override {
    const auto info = snapshotter_.stat(request->key());
    if (info.ok()) put_info(*info, response->mutable_info());
    return grpc_status(info);
  }

  grpc::Status Update(grpc::ServerContext*, const api::UpdateSnapshotRequest* request,
                      api::UpdateSnapshotResponse* response) override {
    Info wanted;
    wanted.name = request->info().name();
    wanted.labels = labels_of(request->info().labels());
    const auto& paths = request->update_mask().paths();
    const auto info =
        snapshotter_.update(wanted, std::vector<std::string>(paths.begin(), paths.end()));
    if (info.ok()) put_info(*info, response->mutable_info());
    return grpc_status(info);
  }

  grpc::Status List(grpc::ServerContext*, const api::ListSnapshotsRequest* request,
                    grpc::ServerWriter<api::ListSnapshotsResponse>* writer) override {
    const auto& filters = request->filters();
    const auto infos = snapshotter_.list(std::vector<std::string>(filters.begin(), filters.end()));
    if (!infos.ok()) return grpc_status(infos.error());
    api::ListSnapshotsResponse message;
    size_t bytes = 0;
    for (const Info& info : *infos) {
      api::Info* out = message.add_info();
      put_info(info, out);
      bytes += out->ByteSizeLong();
      if (static_cast<size_t>(message.info_size()) < kInfosPerMessage && bytes < kBytesPerMessage) {
        continue;
      }
      if (!writer->Write(message)) return grpc::Status::CANCELLED;
      message.Clear();
      bytes = 0;
    }
    if (message.info_size() > 0) writer->Write(message);
    return grpc::Status::OK;
  }

  grpc::Status Usage(grpc::ServerContext*, const api::UsageRequest* request,
                     api::UsageResponse* response) override {
    const auto usage = snapshotter_.usage(request->key());
    if (usage.ok()) {
      response->set_size(static_cast<int64_t>(usage->size));
      response->set_inodes(static_cast<int64_t>(usage->inodes));
    }
    return grpc_status(usage);
  }

  grpc::Status Cleanup(grpc::ServerContext*, const api::CleanupRequest*, Empty*) override {
    return grpc_status(snapshotter_.cleanup());
  }

 private:
  Snapshotter& snapshotter_;
};

}  // namespace

class Server::Impl {
 public:
  Impl(Snapshotter& snapshotter, ServerOptions options)
      : options_(std::move(options)), service_(snapshotter) {}

  ~Impl() {
    if (server_) server_->Shutdown(std::chrono::system_clock::now() + kDrain);
    remove_socket();
  }

  // Bound beside its place, then renamed over it: it never refuses between the
  // two, and is never there with a wide mode.
  Status start() {
    const std::filesystem::path bound = options_.socket.string() + ".new";
    ::unlink(bound.c_str());
    grpc::ServerBuilder builder;
    builder.AddListeningPort("unix:" + bound.string(), grpc::InsecureServerCredentials());
    builder.RegisterService(&service_);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
    builder.SetResourceQuota(grpc::ResourceQuota("snapshots").SetMaxThreads(options_.max_threads));
    server_ = builder.BuildAndStart();
    if (!server_) {
      return Error(Code::unavailable, "cannot listen on socket " + bound.string() +
                                          ": is its folder there, is the path under 107 bytes?");
    }
    if (::chmod(bound.c_str(), 0600) != 0 || ::stat(bound.c_str(), &ours_) != 0 ||
        ::rename(bound.c_str(), options_.socket.c_str()) != 0) {
      return errno_error(errno, "placing socket " + options_.socket.string());
    }
    return {};
  }

 private:
  // Not a successor's, which may have taken the place already.
  void remove_socket() {
    struct stat now;
    if (ours_.st_ino == 0 || ::lstat(options_.socket.c_str(), &now) != 0) return;
    if (now.st_ino == ours_.st_ino && now.st_dev == ours_.st_dev) {
      ::unlink(options_.socket.c_str());
    }
  }

  const ServerOptions options_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  struct stat ours_ {};
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(Snapshotter& snapshotter,
                                              const ServerOptions& options) {
  auto impl = std::make_unique<Impl>(snapshotter, options);
  RETURN_IF_ERROR(impl->start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

}  // namespace pagein::snapshotter
