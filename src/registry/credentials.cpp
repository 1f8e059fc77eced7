#include "registry/credentials.h"

#include <optional>

namespace pagein::registry {

Result<Credentials> StaticCredentials::get(std::string_view name) {
  if (host_.empty() || name.substr(0, name.find('/')) == host_) return credentials_;
  return Credentials();
}

Result<Credentials> ChainedCredentials::get(std::string_view name) {
  std::optional<Error> first_error;
  for (const auto& provider : providers_) {
    Result<Credentials> found = provider->get(name);
    if (found.ok() && !found->empty()) return found;
    if (!found.ok() && !first_error) first_error = std::move(found).error();
  }
  if (first_error) return *std::move(first_error);
  return Credentials();
}

}  // namespace pagein::registry
