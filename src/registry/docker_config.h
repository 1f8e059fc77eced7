// Credentials from Docker's config.json ("auths"; docs.docker.com, "docker
// login"; containers-auth.json(5) for keys with a repository path).
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "base/file.h"
#include "registry/credentials.h"

namespace pagein::registry {

// The parsed file; a value. Keys are normalised: no scheme, no trailing path
// of the old API, Docker Hub's many names are "docker.io".
class DockerConfig {
 public:
  // corrupt_input: not JSON of that shape, or over 1 MiB. An entry whose auth
  // cannot be decoded is an error too: silence would look like a bad password.
  static Result<DockerConfig> parse(ByteView json);

  // The entries whose key is `name` or a prefix of it at a '/', longest first.
  // Their `source` is the key.
  std::vector<Credentials> find(std::string_view name) const;
  // The helper that the file names for the host of `name` (credHelpers, else
  // credsStore); "" if none. Not run here.
  std::string helper(std::string_view name) const;

 private:
  std::map<std::string, Credentials, std::less<>> auths_;
  std::map<std::string, std::string, std::less<>> helpers_;
  std::string store_;
};

// Reads the file anew whenever its modification time or size changes, so that
// `docker login` takes effect without a restart. What a helper has (credHelpers,
// credsStore) comes before what stands in the file.
class DockerConfigCredentials : public CredentialProvider {
 public:
  explicit DockerConfigCredentials(std::filesystem::path file);
  ~DockerConfigCredentials() override;
  // $DOCKER_CONFIG/config.json, else ~/.docker/config.json; "" if neither is set.
  static std::filesystem::path default_path();
  Result<std::vector<Credentials>> get(std::string_view name) override;

 private:
  struct State;
  Status reload();
  std::filesystem::path file_;
  std::unique_ptr<State> state_;
};

}  // namespace pagein::registry
