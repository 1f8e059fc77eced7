// What all access to registries shares in a process: the HTTP client,
// credentials, tokens, TLS settings, retry policy.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>

#include "net/http_client.h"
#include "oci/reference.h"
#include "registry/credentials.h"
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
  net::Headers headers;  // sent to registries (not to redirect targets)
  RetryPolicy retry;
  // For one call of Repository (all its retries); reads have their own.
  std::chrono::seconds call_timeout{120};
};

// Where a registry host is reached. A value. (Mirrors will be more of them.)
struct Endpoint {
  std::string host;    // as in references: "docker.io"
  std::string origin;  // "https://registry-1.docker.io"
  std::shared_ptr<const net::TlsOptions> tls;
  net::Headers headers;

  // origin + "/v2/" + repository + "/" + rest
  std::string url(std::string_view repository, std::string_view rest) const;
};

// Thread-safe; share it. Outlives what was made from it (they hold it).
class Session : public std::enable_shared_from_this<Session> {
 public:
  static Result<std::shared_ptr<Session>> create(SessionOptions options = {});

  net::Client& client() const { return *options_.client; }
  const std::shared_ptr<net::Client>& client_ptr() const { return options_.client; }
  Scheduler& scheduler() const { return *options_.scheduler; }
  const SessionOptions& options() const { return options_; }
  // http for `plain_http` hosts and for loopback ones without TLS settings of
  // their own, else https.
  Endpoint endpoint(const oci::Reference& reference) const;
  Authenticator& auth() const { return *auth_; }

 private:
  explicit Session(SessionOptions options);
  SessionOptions options_;
  std::shared_ptr<Authenticator> auth_;
};

}  // namespace pagein::registry
