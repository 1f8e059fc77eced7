// Ranged reads of one repository's blobs over HTTP.
//
// What is asked of a server: 206 with the very Content-Range that was asked
// for. A 200 instead (a mirror that has to fetch the blob first, a proxy that
// strips Range) is used as the one stream that it is, up to a limit on what is
// skipped; range_unsupported() then tells the caller to load the blob whole.
//
// Redirect targets (object storage) are remembered per blob and used without
// the registry until one refuses; then the registry is asked once more.
//
// With a hosts.toml there are several hosts. Each read asks them in turn until
// one delivers, and goes on at the next where one breaks off; who failed rests.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "oci/reference.h"
#include "registry/auth.h"
#include "registry/blob_source.h"
#include "registry/session.h"

namespace pagein::registry {

class ReadOperation;

// Thread-safe. Lives on, with its session, until its reads have ended.
class RegistryBlobSource : public BlobSource,
                           public std::enable_shared_from_this<RegistryBlobSource> {
 public:
  RegistryBlobSource(std::shared_ptr<Session> session, const oci::Reference& name);
  ~RegistryBlobSource() override;

  ReadId read(const BlobRead& read, std::shared_ptr<BlobSink> sink) override;
  void cancel(ReadId id) override;
  void pause(ReadId id) override;
  void resume(ReadId id) override;
  void promote(ReadId id) override;
  void distrust(ReadId id) override;
  // Of every host.
  bool range_unsupported(const oci::Digest& digest) const override;
  net::LinkEstimate link() const override;
  std::string describe() const override { return name_.name(); }

 private:
  friend class ReadOperation;
  void distrust_ended(ReadId id);
  struct Target {
    std::string url;
    net::Clock::time_point forget_at;
  };
  // The registry, or a mirror. What is not const is guarded by mutex_.
  struct Host {
    Endpoint endpoint;
    AuthTarget auth;
    std::shared_ptr<const net::TlsOptions> target_tls;  // without our certificate
    std::map<oci::Digest, Target> targets = {};
    std::map<oci::Digest, net::Clock::time_point> without_ranges = {};  // until then
    std::map<oci::Digest, net::Clock::time_point> distrusted = {};      // until then
  };
  using HostPtr = std::shared_ptr<Host>;
  struct Ended {
    oci::Digest digest;
    std::vector<HostPtr> hosts;  // that delivered
  };

  std::shared_ptr<ReadOperation> find(ReadId id) const;
  void ended(ReadId id, Ended how);
  // Whom to ask for the blob now, best first; never empty. A range is not asked of a host that
  // lately sent the whole blob instead while there are others.
  std::vector<HostPtr> route(const oci::Digest& digest, bool ranged) const;
  // "" if none is known. With its query: never for a message.
  std::string cached_target(const HostPtr& host, const oci::Digest& digest) const;
  void remember_target(const HostPtr& host, const oci::Digest& digest, const std::string& url);
  void forget_target(const HostPtr& host, const oci::Digest& digest, const std::string& url);
  void set_range_support(const HostPtr& host, const oci::Digest& digest, bool supported);

  const std::shared_ptr<Session> session_;
  const oci::Reference name_;
  std::vector<Endpoint> endpoints_;  // of hosts_; constant
  std::vector<HostPtr> hosts_;       // constant
  std::atomic<ReadId> next_id_{0};
  mutable Mutex mutex_;
  std::unordered_map<ReadId, std::shared_ptr<ReadOperation>> reads_ GUARDED_BY(mutex_);
  std::map<ReadId, Ended> ended_ GUARDED_BY(mutex_);  // the latest
  std::string data_url_ GUARDED_BY(mutex_);           // that delivered last
};

}  // namespace pagein::registry
