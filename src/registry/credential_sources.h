// All places that credentials may come from, put together.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "registry/credentials.h"
#include "registry/memory_credentials.h"

namespace pagein::registry {

struct CredentialSources {
  std::shared_ptr<MemoryCredentials> handed_over;  // nullptr: none
  // Docker's config.json; empty: where Docker looks for it.
  std::filesystem::path docker_config;
  std::vector<std::filesystem::path> files;  // more of that form
  std::filesystem::path plugin_config;       // kubelet's; empty: no plugins
  std::filesystem::path plugin_bin_dir;
};

// In the order above. Does no I/O yet.
std::shared_ptr<CredentialProvider> make_credentials(const CredentialSources& sources);

}  // namespace pagein::registry
