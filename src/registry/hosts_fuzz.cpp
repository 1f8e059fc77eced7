// hosts.toml: no crash, and what comes out is usable.
#include "base/file.h"
#include "net/url.h"
#include "registry/hosts_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  registry::RegistryHost registry;
  registry.origin = "https://reg.example";
  const auto hosts = registry::parse_hosts_file(as_text({data, size}), "/certs", registry);
  if (!hosts.ok()) return 0;
  if (hosts->empty()) std::abort();
  for (const registry::RegistryHost& host : *hosts) {
    if (!net::parse_url(host.origin + host.path + "/x").ok()) std::abort();
    if (!host.ca_files.empty() && host.tls == nullptr) std::abort();
  }
  return 0;
}
