#include <cstdlib>
#include <cstring>

#include "registry/archive_index.h"

// Members lie within the file, and looking any of them up ends.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  using namespace pagein::registry;
  const auto read_at = [&](uint64_t offset, std::span<uint8_t> out) -> Status {
    if (offset > size || out.size() > size - offset) std::abort();
    std::memcpy(out.data(), data + offset, out.size());
    return {};
  };
  const auto index = ArchiveIndex::read(read_at, size);
  if (!index.ok()) return 0;
  for (const auto& [path, member] : index->members()) {
    if (member.offset > size || member.size > size - member.offset) std::abort();
    static_cast<void>(index->find(path));
  }
  return 0;
}
