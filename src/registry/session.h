// What all access to registries shares in a process: the HTTP client,
// credentials, tokens, TLS settings, retry policy.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "net/http_client.h"
#include "oci/reference.h"
#include "registry/credentials.h"
#include "registry/host_health.h"
#include "registry/hosts_file.h"
#include "registry/retry.h"

namespace pagein::registry {

class Authenticator;

struct SessionOptions {
  std::shared_ptr<net::Client> client;              // nullptr: a new one
  std::shared_ptr<CredentialProvider> credentials;  // nullptr: anonymous
  std::shared_ptr<Scheduler> scheduler;             // nullptr: real time
  std::set<std::string> plain_http;                 // hosts reached by http
  std::shared_ptr<const net::TlsOptions> tls;       // for hosts not named below
  std::map<std::string, std::shared_ptr<const net::TlsOptions>> host_tls;
  net::Headers headers;             // sent to registries (not to redirect targets)
  std::filesystem::path hosts_dir;  // containerd's certs.d; empty: none
  // A host that is not the last to ask is left after so long without a byte.
  std::chrono::seconds mirror_patience{3};
  RetryPolicy retry;
  // For one call of Repository (all its retries); reads have their own.
  std::chrono::seconds call_timeout{120};
};

// Where a registry host is reached: the registry itself, or one of its mirrors. A value.
struct Endpoint {
  std::string host;    // as in references: "docker.io"
  std::string origin;  // "https://registry-1.docker.io"
  std::string path = "/v2";
  bool mirror = false;
  std::shared_ptr<const net::TlsOptions> tls;
  net::Headers headers;
  std::chrono::milliseconds dial_timeout{0};  // 0: the client's default

  // origin + path + "/" + repository + "/" + rest, and for a mirror whose registry it stands for
  // (?ns=, as containerd tells it).
  std::string url(std::string_view repository, std::string_view rest) const;
  // "host/repository" that credentials are looked up for: a mirror gets its own, never the
  // registry's.
  std::string credentials_name(const oci::Reference& name) const;
  std::string key() const { return origin + path; }  // for HostHealth
};

// Thread-safe; share it. Outlives what was made from it (they hold it).
class Session : public std::enable_shared_from_this<Session> {
 public:
  static Result<std::shared_ptr<Session>> create(SessionOptions options = {});

  net::Client& client() const { return *options_.client; }
  const std::shared_ptr<net::Client>& client_ptr() const { return options_.client; }
  Scheduler& scheduler() const { return *options_.scheduler; }
  const SessionOptions& options() const { return options_; }
  // Of the registry itself: http for `plain_http` hosts and for loopback ones without TLS settings
  // of their own, else https.
  Endpoint endpoint(const oci::Reference& reference) const;
  // All that may be asked, by hosts.toml, in its order (never empty). Reads files: may block on
  // disk. failed_precondition: no host has that capability, or hosts.toml cannot be used.
  Result<std::vector<Endpoint>> endpoints(const oci::Reference& reference,
                                          Capability capability) const;
  // The order to ask them in now: those that rest last; among neighbouring mirrors, one that
  // answers far slower than another behind it.
  std::vector<size_t> order(const std::vector<Endpoint>& endpoints) const;
  HostHealth& health() const { return health_; }
  Authenticator& auth() const { return *auth_; }

 private:
  explicit Session(SessionOptions options);
  SessionOptions options_;
  std::shared_ptr<Authenticator> auth_;
  mutable HostHealth health_;
};

}  // namespace pagein::registry
