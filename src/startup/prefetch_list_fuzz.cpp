// Every path is absolute, and a list of the paths is read the same again.
#include <cstddef>
#include <cstdint>
#include <string>

#include "startup/prefetch_list.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto paths = startup::parse_prefetch_list(text);
  if (!paths.ok()) return 0;
  std::string again;
  for (const auto& path : *paths) {
    if (path.path.empty() || path.path.front() != '/') __builtin_trap();
    again += path.path + (path.directory && path.path != "/" ? "/\n" : "\n");
  }
  const auto second = startup::parse_prefetch_list(again);
  if (!second.ok() || *second != *paths) __builtin_trap();
  return 0;
}
