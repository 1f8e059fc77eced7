// Client's calls of containerd's snapshots and diff services.
#include "containerd/client.h"
#include "containerd/connection.h"
#include "containerd/services/diff.grpc.pb.h"
#include "containerd/services/snapshots.grpc.pb.h"

namespace pagein::containerd {

namespace {

namespace diffs = ::containerd::services::diff::v1;
namespace snapshots = ::containerd::services::snapshots::v1;
using google::protobuf::Empty;

std::vector<Mount> mounts_of(
    const google::protobuf::RepeatedPtrField<::containerd::types::Mount>& mounts) {
  std::vector<Mount> out;
  for (const auto& mount : mounts) {
    out.push_back({mount.type(),
                   mount.source(),
                   mount.target(),
                   {mount.options().begin(), mount.options().end()}});
  }
  return out;
}

}  // namespace

Result<std::vector<Mount>> Client::prepare_snapshot(const SnapshotRequest& wanted) {
  Call call(*this, Call::Deadline::none);  // the snapshotter may have to fetch
  snapshots::PrepareSnapshotRequest request;
  request.set_snapshotter(wanted.snapshotter);
  request.set_key(wanted.key);
  request.set_parent(wanted.parent);
  request.mutable_labels()->insert(wanted.labels.begin(), wanted.labels.end());
  snapshots::PrepareSnapshotResponse response;
  RETURN_IF_ERROR(call.status(snapshots::Snapshots::NewStub(connection_->channel)
                                  ->Prepare(call.context(), request, &response),
                              "preparing snapshot " + wanted.key));
  return mounts_of(response.mounts());
}

Status Client::commit_snapshot(const SnapshotRequest& committed, const std::string& active_key) {
  Call call(*this, Call::Deadline::none);  // measures what was unpacked
  snapshots::CommitSnapshotRequest request;
  request.set_snapshotter(committed.snapshotter);
  request.set_name(committed.key);
  request.set_key(active_key);
  request.mutable_labels()->insert(committed.labels.begin(), committed.labels.end());
  Empty response;
  return call.status(snapshots::Snapshots::NewStub(connection_->channel)
                         ->Commit(call.context(), request, &response),
                     "committing snapshot " + committed.key);
}

Status Client::remove_snapshot(const std::string& snapshotter, const std::string& key) {
  Call call(*this);
  snapshots::RemoveSnapshotRequest request;
  request.set_snapshotter(snapshotter);
  request.set_key(key);
  Empty response;
  return call.status(snapshots::Snapshots::NewStub(connection_->channel)
                         ->Remove(call.context(), request, &response),
                     "removing snapshot " + key);
}

Result<SnapshotInfo> Client::stat_snapshot(const std::string& snapshotter, const std::string& key) {
  Call call(*this);
  snapshots::StatSnapshotRequest request;
  request.set_snapshotter(snapshotter);
  request.set_key(key);
  snapshots::StatSnapshotResponse response;
  RETURN_IF_ERROR(call.status(
      snapshots::Snapshots::NewStub(connection_->channel)->Stat(call.context(), request, &response),
      "looking up snapshot " + key));
  const snapshots::Info& info = response.info();
  return SnapshotInfo{info.name(), info.parent(), info.kind() == snapshots::COMMITTED,
                      Labels(info.labels().begin(), info.labels().end())};
}

Result<std::vector<Mount>> Client::snapshot_mounts(const std::string& snapshotter,
                                                   const std::string& key) {
  Call call(*this);
  snapshots::MountsRequest request;
  request.set_snapshotter(snapshotter);
  request.set_key(key);
  snapshots::MountsResponse response;
  RETURN_IF_ERROR(call.status(snapshots::Snapshots::NewStub(connection_->channel)
                                  ->Mounts(call.context(), request, &response),
                              "asking the mounts of snapshot " + key));
  return mounts_of(response.mounts());
}

Result<oci::Digest> Client::apply(const oci::Descriptor& layer, const std::vector<Mount>& mounts) {
  Call call(*this, Call::Deadline::none);
  diffs::ApplyRequest request;
  request.mutable_diff()->set_media_type(layer.media_type);
  request.mutable_diff()->set_digest(layer.digest.str());
  request.mutable_diff()->set_size(static_cast<int64_t>(layer.size));
  request.mutable_diff()->mutable_annotations()->insert(layer.annotations.begin(),
                                                        layer.annotations.end());
  for (const Mount& mount : mounts) {
    ::containerd::types::Mount* out = request.add_mounts();
    out->set_type(mount.type);
    out->set_source(mount.source);
    out->set_target(mount.target);
    for (const std::string& option : mount.options) out->add_options(option);
  }
  diffs::ApplyResponse response;
  RETURN_IF_ERROR(call.status(
      diffs::Diff::NewStub(connection_->channel)->Apply(call.context(), request, &response),
      "unpacking layer " + layer.digest.str()));
  return oci::Digest::parse(response.applied().digest());
}

}  // namespace pagein::containerd
