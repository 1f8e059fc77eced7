#include "registry/credential_sources.h"

#include "registry/docker_config.h"
#include "registry/kubelet_credentials.h"

namespace pagein::registry {

std::shared_ptr<CredentialProvider> make_credentials(const CredentialSources& sources) {
  std::vector<std::shared_ptr<CredentialProvider>> chain;
  if (sources.handed_over != nullptr) chain.push_back(sources.handed_over);
  const std::filesystem::path docker = sources.docker_config.empty()
                                           ? DockerConfigCredentials::default_path()
                                           : sources.docker_config;
  if (!docker.empty()) chain.push_back(std::make_shared<DockerConfigCredentials>(docker));
  for (const std::filesystem::path& file : sources.files) {
    chain.push_back(std::make_shared<DockerConfigCredentials>(file));
  }
  if (!sources.plugin_config.empty()) {
    chain.push_back(std::make_shared<KubeletCredentials>(KubeletCredentials::Options{
        .config = sources.plugin_config, .bin_dir = sources.plugin_bin_dir}));
  }
  return std::make_shared<ChainedCredentials>(std::move(chain));
}

}  // namespace pagein::registry
