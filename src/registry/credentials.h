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
  bool empty() const { return username.empty() && password.empty() && identity_token.empty(); }
};

// Thread-safe. May block (files, credential helpers): never called on the net
// thread.
class CredentialProvider {
 public:
  virtual ~CredentialProvider() = default;
  // For "host/repository" (docker.io/library/debian). Empty credentials: none
  // known, go anonymous. An error: they should be there but cannot be had.
  virtual Result<Credentials> get(std::string_view name) = 0;
};

// The same for every registry named; for flags and tests.
class StaticCredentials : public CredentialProvider {
 public:
  // `host` "" matches every registry.
  StaticCredentials(std::string host, Credentials credentials)
      : host_(std::move(host)), credentials_(std::move(credentials)) {}
  Result<Credentials> get(std::string_view name) override;

 private:
  std::string host_;
  Credentials credentials_;
};

// Asks each in turn; the first that has some wins. Errors of one are kept for
// the case that nobody has any.
class ChainedCredentials : public CredentialProvider {
 public:
  explicit ChainedCredentials(std::vector<std::shared_ptr<CredentialProvider>> providers)
      : providers_(std::move(providers)) {}
  Result<Credentials> get(std::string_view name) override;

 private:
  std::vector<std::shared_ptr<CredentialProvider>> providers_;
};

}  // namespace pagein::registry
