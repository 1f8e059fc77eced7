// Ranged reads of one repository's blobs over HTTP.
//
// What is asked of a server: 206 with the very Content-Range that was asked
// for. A 200 instead (a mirror that has to fetch the blob first, a proxy that
// strips Range) is used as the one stream that it is, up to a limit on what is
// skipped; range_unsupported() then tells the caller to load the blob whole.
//
// Redirect targets (object storage) are remembered per blob and used without
// the registry until one refuses; then the registry is asked once more.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <unordered_map>
#include <unordered_set>

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
  bool range_unsupported(const oci::Digest& digest) const override;
  net::LinkEstimate link() const override;
  std::string describe() const override { return name_.name(); }

 private:
  friend class ReadOperation;
  struct Target {
    std::string url;
    net::Clock::time_point forget_at;
  };

  std::shared_ptr<ReadOperation> find(ReadId id) const;
  void ended(ReadId id);
  // "" if none is known. With its query: never for a message.
  std::string cached_target(const oci::Digest& digest) const;
  void remember_target(const oci::Digest& digest, const std::string& url);
  void forget_target(const oci::Digest& digest, const std::string& url);
  void set_range_support(const oci::Digest& digest, bool supported);

  const std::shared_ptr<Session> session_;
  const oci::Reference name_;
  const Endpoint endpoint_;
  const AuthTarget auth_target_;
  const std::shared_ptr<const net::TlsOptions> target_tls_;  // without our certificate
  std::atomic<ReadId> next_id_{0};
  mutable Mutex mutex_;
  std::unordered_map<ReadId, std::shared_ptr<ReadOperation>> reads_ GUARDED_BY(mutex_);
  std::map<oci::Digest, Target> targets_ GUARDED_BY(mutex_);
  std::unordered_set<oci::Digest> without_ranges_ GUARDED_BY(mutex_);
  std::string data_url_ GUARDED_BY(mutex_);  // that delivered last
};

}  // namespace pagein::registry
