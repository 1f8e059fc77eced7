#include "registry/credentials.h"

#include <iterator>
#include <optional>

namespace pagein::registry {

Result<std::vector<Credentials>> StaticCredentials::get(std::string_view name) {
  if (host_.empty() || name.substr(0, name.find('/')) == host_) return std::vector{credentials_};
  return std::vector<Credentials>();
}

Result<std::vector<Credentials>> ChainedCredentials::get(std::string_view name) {
  std::vector<Credentials> out;
  std::optional<Error> first_error;
  for (const auto& provider : providers_) {
    Result<std::vector<Credentials>> found = provider->get(name);
    if (found.ok()) {
      std::move(found->begin(), found->end(), std::back_inserter(out));
    } else if (!first_error) {
      first_error = std::move(found).error();
    }
  }
  if (out.empty() && first_error) return *std::move(first_error);
  if (out.size() > kMaxCandidates) out.resize(kMaxCandidates);
  return out;
}

void ChainedCredentials::forget(std::string_view name) {
  for (const auto& provider : providers_) provider->forget(name);
}

}  // namespace pagein::registry
