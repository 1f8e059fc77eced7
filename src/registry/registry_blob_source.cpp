#include "registry/registry_blob_source.h"

#include <algorithm>

#include "base/log.h"
#include "registry/read_operation.h"

namespace pagein::registry {

namespace {
constexpr size_t kMaxTargets = 4096;
constexpr size_t kMaxRemembered = 4096;  // blobs, of each host
constexpr size_t kMaxEnded = 1024;       // reads that can still be distrusted
constexpr std::chrono::minutes kDistrust{10};
// How long a host that sent the whole blob is not asked for its ranges: it is loading it now.
constexpr std::chrono::seconds kLoadingTime{30};
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
    : session_(std::move(session)), name_(name) {
  Result<std::vector<Endpoint>> endpoints = session_->endpoints(name_, Capability::pull);
  if (endpoints.ok()) {
    endpoints_ = *std::move(endpoints);
  } else {
    log::warn("hosts.toml cannot be used; the registry itself is asked",
              {{"repository", name_.name()}, {"why", endpoints.error().message}});
    endpoints_.push_back(session_->endpoint(name_));
  }
  for (const Endpoint& endpoint : endpoints_) {
    hosts_.push_back(
        std::make_shared<Host>(Host{.endpoint = endpoint,
                                    .auth = {.origin = endpoint.origin,
                                             .name = endpoint.credentials_name(name_),
                                             .scope = "repository:" + name_.repository() + ":pull",
                                             .tls = endpoint.tls},
                                    .target_tls = without_client_cert(endpoint.tls)}));
  }
}

std::vector<RegistryBlobSource::HostPtr> RegistryBlobSource::route(const oci::Digest& digest,
                                                                   bool ranged) const {
  std::vector<HostPtr> out;
  if (hosts_.size() == 1) return hosts_;
  for (const size_t i : session_->order(endpoints_)) out.push_back(hosts_[i]);
  const net::Clock::time_point now = session_->scheduler().now();
  MutexLock lock(mutex_);
  const auto lasts = [&](const std::map<oci::Digest, net::Clock::time_point>& until) {
    const auto it = until.find(digest);
    return it != until.end() && it->second > now;
  };
  if (ranged) {
    std::stable_partition(out.begin(), out.end(),
                          [&](const HostPtr& host) { return !lasts(host->without_ranges); });
  }
  std::stable_partition(out.begin(), out.end(),
                        [&](const HostPtr& host) { return !lasts(host->distrusted); });
  return out;
}

// After a cancel() that is on its way, and before the reads that follow begin.
void RegistryBlobSource::distrust(ReadId id) {
  session_->client().run_after({}, [self = shared_from_this(), id] { self->distrust_ended(id); });
}

void RegistryBlobSource::distrust_ended(ReadId id) {
  const net::Clock::time_point now = session_->scheduler().now();
  std::vector<HostPtr> hosts;
  {
    MutexLock lock(mutex_);
    const auto it = ended_.find(id);
    if (it == ended_.end() || hosts_.size() == 1) return;
    hosts = it->second.hosts;
    for (const HostPtr& host : hosts) {
      if (host->distrusted.size() >= kMaxRemembered) host->distrusted.clear();
      host->distrusted[it->second.digest] = now + kDistrust;
    }
    ended_.erase(it);
  }
  for (const HostPtr& host : hosts) {
    session_->health().failed(host->endpoint.key(), HostHealth::Failure::wrong_bytes, now);
  }
}

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

void RegistryBlobSource::ended(ReadId id, Ended how) {
  MutexLock lock(mutex_);
  reads_.erase(id);
  if (hosts_.size() == 1 || how.hosts.empty()) return;
  if (ended_.size() >= kMaxEnded) ended_.erase(ended_.begin());
  ended_[id] = std::move(how);
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
  return std::all_of(hosts_.begin(), hosts_.end(),
                     [&](const HostPtr& host) { return host->without_ranges.contains(digest); });
}

void RegistryBlobSource::set_range_support(const HostPtr& host, const oci::Digest& digest,
                                           bool supported) {
  const net::Clock::time_point now = session_->scheduler().now();
  MutexLock lock(mutex_);
  if (supported) {
    host->without_ranges.erase(digest);
  } else {
    if (host->without_ranges.size() >= kMaxRemembered) host->without_ranges.clear();
    host->without_ranges[digest] = now + kLoadingTime;
  }
}

net::LinkEstimate RegistryBlobSource::link() const {
  std::string url;
  {
    MutexLock lock(mutex_);
    url = data_url_;
  }
  return session_->client().link(url.empty() ? endpoints_.front().origin : url);
}

std::string RegistryBlobSource::cached_target(const HostPtr& host,
                                              const oci::Digest& digest) const {
  MutexLock lock(mutex_);
  const auto it = host->targets.find(digest);
  if (it == host->targets.end() || it->second.forget_at <= session_->scheduler().now()) return {};
  return it->second.url;
}

void RegistryBlobSource::remember_target(const HostPtr& host, const oci::Digest& digest,
                                         const std::string& url) {
  MutexLock lock(mutex_);
  if (host->targets.size() >= kMaxTargets) host->targets.clear();
  host->targets[digest] = {url, session_->scheduler().now() + kTargetLifetime};
}

void RegistryBlobSource::forget_target(const HostPtr& host, const oci::Digest& digest,
                                       const std::string& url) {
  MutexLock lock(mutex_);
  const auto it = host->targets.find(digest);
  // Another read may have learnt a fresh one meanwhile.
  if (it != host->targets.end() && it->second.url == url) host->targets.erase(it);
}

}  // namespace pagein::registry
