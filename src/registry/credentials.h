// Who we are to a registry.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pagein::registry {

// Never logged, never written to disk, never part of a message.
struct Credentials {
  std::string username;
  std::string password;
  std::string identity_token;  // OAuth2 refresh token, instead of the two above
  // What they are and where they come from, for messages: "the login for
  // quay.io in /root/.docker/config.json". Holds no secret.
  std::string source;
  bool empty() const { return username.empty() && password.empty() && identity_token.empty(); }
};

// Thread-safe. May block (files, credential helpers): never called on the net
// thread.
class CredentialProvider {
 public:
  virtual ~CredentialProvider() = default;
  // For "host/repository" (docker.io/library/debian), to be tried in this
  // order. An empty list: none known, go anonymous. An error: they should be
  // there but cannot be had.
  virtual Result<std::vector<Credentials>> get(std::string_view name) = 0;
  // A registry refused what get() gave: whoever keeps answers asks anew.
  virtual void forget(std::string_view name) { static_cast<void>(name); }
};

// The same for every registry named; for flags and tests.
class StaticCredentials : public CredentialProvider {
 public:
  // `host` "" matches every registry.
  StaticCredentials(std::string host, Credentials credentials)
      : host_(std::move(host)), credentials_(std::move(credentials)) {}
  Result<std::vector<Credentials>> get(std::string_view name) override;

 private:
  std::string host_;
  Credentials credentials_;
};

// Asks all; what they have stands in their order. Errors of one count only
// where nobody has any.
inline constexpr size_t kMaxCandidates = 16;  // for one repository

class ChainedCredentials : public CredentialProvider {
 public:
  explicit ChainedCredentials(std::vector<std::shared_ptr<CredentialProvider>> providers)
      : providers_(std::move(providers)) {}
  Result<std::vector<Credentials>> get(std::string_view name) override;
  void forget(std::string_view name) override;

 private:
  std::vector<std::shared_ptr<CredentialProvider>> providers_;
};

}  // namespace pagein::registry
