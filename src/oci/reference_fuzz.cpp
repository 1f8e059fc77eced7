#include <cstdlib>

#include "base/file.h"
#include "oci/descriptor.h"
#include "oci/reference.h"

// A reference that parses is printed and parsed to the same value.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  const std::string_view text = as_text({data, size});
  if (const auto reference = oci::Reference::parse(text); reference.ok()) {
    const auto again = oci::Reference::parse(reference->str());
    if (!again.ok() || *again != *reference) std::abort();
    if (reference->str().find("/../") != std::string::npos) std::abort();
  }
  if (const auto platform = oci::Platform::parse(text); platform.ok()) {
    if (oci::match_platform(*platform, *platform) == 0) std::abort();
  }
  return 0;
}
