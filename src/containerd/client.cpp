#include "containerd/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <unistd.h>

#include <atomic>
#include <ctime>

#include "containerd/connection.h"
#include "containerd/grpc_code.h"
#include "containerd/services/leases.grpc.pb.h"
#include "containerd/services/namespaces.grpc.pb.h"
#include "containerd/services/version.grpc.pb.h"

namespace pagein::containerd {

namespace {

using google::protobuf::Empty;
namespace leases = ::containerd::services::leases::v1;
namespace namespaces = ::containerd::services::namespaces::v1;
namespace versions = ::containerd::services::version::v1;

constexpr int kMaxMessage = 16 << 20;  // containerd's own limit (defaults/defaults.go)
// containerd pkg/namespaces and leases: request headers.
constexpr char kNamespaceHeader[] = "containerd-namespace";
constexpr char kLeaseHeader[] = "containerd-lease";
constexpr char kExpire[] = "containerd.io/gc.expire";

std::string rfc3339(std::chrono::system_clock::time_point time) {
  const std::time_t seconds = std::chrono::system_clock::to_time_t(time);
  std::tm utc{};
  ::gmtime_r(&seconds, &utc);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return text;
}

}  // namespace

Client::Call::Call(const Client& client, Deadline deadline)
    : client_(client), on_stop_(client.stop_, Cancel{&context_}) {
  const ClientOptions& options = client.connection_->options;
  context_.AddMetadata(kNamespaceHeader, options.name_space);
  if (!client.lease_.empty()) context_.AddMetadata(kLeaseHeader, client.lease_);
  if (deadline == Deadline::usual) {
    context_.set_deadline(std::chrono::system_clock::now() + options.timeout);
  }
}

Status Client::Call::status(const grpc::Status& status, std::string_view doing) const {
  if (status.ok()) return {};
  std::string message = std::string(doing) + ": " + status.error_message();
  if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
    message += " (is containerd running at " + client_.connection_->options.socket + "?)";
  }
  return Error(from_grpc_code(status.error_code()), std::move(message));
}

Client::Client(std::shared_ptr<Connection> connection, std::string lease, std::stop_token stop)
    : connection_(std::move(connection)), lease_(std::move(lease)), stop_(std::move(stop)) {}

Client::~Client() = default;

std::unique_ptr<Client> Client::open(const ClientOptions& options, std::stop_token stop) {
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessage);
  // No proxy for a unix socket, whatever the environment says.
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  auto connection = std::make_shared<Connection>();
  connection->options = options;
  connection->channel = grpc::CreateCustomChannel("unix:" + options.socket,
                                                  grpc::InsecureChannelCredentials(), arguments);
  return std::unique_ptr<Client>(new Client(std::move(connection), {}, std::move(stop)));
}

std::unique_ptr<Client> Client::with_lease(const std::string& lease) const {
  return std::unique_ptr<Client>(new Client(connection_, lease, stop_));
}

std::unique_ptr<Client> Client::with_stop(std::stop_token stop) const {
  return std::unique_ptr<Client>(new Client(connection_, lease_, std::move(stop)));
}

Result<std::string> Client::version() {
  Call call(*this);
  versions::VersionResponse response;
  RETURN_IF_ERROR(call.status(
      versions::Version::NewStub(connection_->channel)->Version(call.context(), Empty(), &response),
      "asking containerd's version"));
  return response.version();
}

Status Client::ensure_namespace() {
  Call call(*this);
  namespaces::CreateNamespaceRequest request;
  request.mutable_namespace_()->set_name(connection_->options.name_space);
  namespaces::CreateNamespaceResponse response;
  const Status status = call.status(namespaces::Namespaces::NewStub(connection_->channel)
                                        ->Create(call.context(), request, &response),
                                    "making namespace " + connection_->options.name_space);
  if (!status.ok() && status.error().code == Code::already_exists) return {};
  return status;
}

Result<std::string> Client::create_lease(std::chrono::seconds lifetime) {
  static std::atomic<uint64_t> counter{0};
  const auto now = std::chrono::system_clock::now();
  Call call(*this);
  leases::CreateRequest request;
  request.set_id("pagein-" + std::to_string(now.time_since_epoch().count()) + "-" +
                 std::to_string(::getpid()) + "-" + std::to_string(++counter));
  (*request.mutable_labels())[kExpire] = rfc3339(now + lifetime);
  leases::CreateResponse response;
  RETURN_IF_ERROR(call.status(
      leases::Leases::NewStub(connection_->channel)->Create(call.context(), request, &response),
      "creating a lease"));
  return response.lease().id();
}

Status Client::delete_lease(const std::string& lease) {
  Call call(*this);
  leases::DeleteRequest request;
  request.set_id(lease);
  Empty response;
  return call.status(
      leases::Leases::NewStub(connection_->channel)->Delete(call.context(), request, &response),
      "deleting lease " + lease);
}

Status Client::lease_snapshot(const std::string& lease, const std::string& snapshotter,
                              const std::string& key) {
  Call call(*this);
  leases::AddResourceRequest request;
  request.set_id(lease);
  request.mutable_resource()->set_id(key);
  request.mutable_resource()->set_type("snapshots/" + snapshotter);
  Empty response;
  return call.status(leases::Leases::NewStub(connection_->channel)
                         ->AddResource(call.context(), request, &response),
                     "adding snapshot " + key + " to a lease");
}

}  // namespace pagein::containerd
