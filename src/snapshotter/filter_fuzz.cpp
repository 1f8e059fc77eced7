// Any filter text parses or is refused, and one that parses can be used.
#include <cstddef>
#include <cstdint>
#include <string>

#include "snapshotter/filter.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein::snapshotter;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto filter = Filter::parse({text});
  if (!filter.ok()) return 0;
  Info info;
  info.name = "default/7/sha256:0123";
  info.parent = text;
  info.kind = Kind::view;
  info.labels = {{"containerd.io/snapshot.ref", "sha256:0123"}, {"l", text}};
  (void)filter->matches(info);
  return 0;
}
