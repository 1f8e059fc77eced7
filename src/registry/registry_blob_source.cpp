#include "registry/registry_blob_source.h"

#include "registry/read_operation.h"

namespace pagein::registry {

namespace {
constexpr size_t kMaxTargets = 4096;
constexpr size_t kMaxWithoutRanges = 4096;
// Signed URLs live for minutes to an hour; a refusal ends them earlier here.
constexpr std::chrono::minutes kTargetLifetime{15};

std::shared_ptr<const net::TlsOptions> without_client_cert(
    const std::shared_ptr<const net::TlsOptions>& tls) {
  if (tls == nullptr || tls->client_cert_file.empty()) return tls;
  auto out = std::make_shared<net::TlsOptions>(*tls);
  out->client_cert_file.clear();
  out->client_key_file.clear();
  return out;
}
}  // namespace

RegistryBlobSource::RegistryBlobSource(std::shared_ptr<Session> session, const oci::Reference& name)
    : session_(std::move(session)),
      name_(name),
      endpoint_(session_->endpoint(name)),
      auth_target_{.origin = endpoint_.origin,
                   .name = name.name(),
                   .scope = "repository:" + name.repository() + ":pull",
                   .tls = endpoint_.tls},
      target_tls_(without_client_cert(endpoint_.tls)) {}

RegistryBlobSource::~RegistryBlobSource() = default;

ReadId RegistryBlobSource::read(const BlobRead& read, std::shared_ptr<BlobSink> sink) {
  const ReadId id = ++next_id_;
  auto operation = std::make_shared<ReadOperation>(shared_from_this(), id, read, std::move(sink));
  {
    MutexLock lock(mutex_);
    reads_[id] = operation;
  }
  session_->client().run_after({}, [operation] { operation->begin(); });
  return id;
}

std::shared_ptr<ReadOperation> RegistryBlobSource::find(ReadId id) const {
  MutexLock lock(mutex_);
  const auto it = reads_.find(id);
  return it == reads_.end() ? nullptr : it->second;
}

void RegistryBlobSource::ended(ReadId id) {
  MutexLock lock(mutex_);
  reads_.erase(id);
}

void RegistryBlobSource::cancel(ReadId id) {
  if (auto operation = find(id)) {
    operation->stop_delivery();
    session_->client().run_after({}, [operation] { operation->cancel(); });
  }
}

void RegistryBlobSource::pause(ReadId id) {
  auto operation = find(id);
  if (operation == nullptr) return;
  if (session_->client().on_net_thread()) return operation->pause();
  session_->client().run_after({}, [operation] { operation->pause(); });
}

void RegistryBlobSource::resume(ReadId id) {
  if (auto operation = find(id)) {
    session_->client().run_after({}, [operation] { operation->resume(); });
  }
}

void RegistryBlobSource::promote(ReadId id) {
  if (auto operation = find(id)) {
    session_->client().run_after({}, [operation] { operation->promote(); });
  }
}

bool RegistryBlobSource::range_unsupported(const oci::Digest& digest) const {
  MutexLock lock(mutex_);
  return without_ranges_.contains(digest);
}

void RegistryBlobSource::set_range_support(const oci::Digest& digest, bool supported) {
  MutexLock lock(mutex_);
  if (supported) {
    without_ranges_.erase(digest);
  } else {
    if (without_ranges_.size() >= kMaxWithoutRanges) without_ranges_.clear();
    without_ranges_.insert(digest);
  }
}

net::LinkEstimate RegistryBlobSource::link() const {
  std::string url;
  {
    MutexLock lock(mutex_);
    url = data_url_;
  }
  return session_->client().link(url.empty() ? endpoint_.origin : url);
}

std::string RegistryBlobSource::cached_target(const oci::Digest& digest) const {
  MutexLock lock(mutex_);
  const auto it = targets_.find(digest);
  if (it == targets_.end() || it->second.forget_at <= session_->scheduler().now()) return {};
  return it->second.url;
}

void RegistryBlobSource::remember_target(const oci::Digest& digest, const std::string& url) {
  MutexLock lock(mutex_);
  if (targets_.size() >= kMaxTargets) targets_.clear();
  targets_[digest] = {url, session_->scheduler().now() + kTargetLifetime};
}

void RegistryBlobSource::forget_target(const oci::Digest& digest, const std::string& url) {
  MutexLock lock(mutex_);
  const auto it = targets_.find(digest);
  // Another read may have learnt a fresh one meanwhile.
  if (it != targets_.end() && it->second.url == url) targets_.erase(it);
}

}  // namespace pagein::registry
