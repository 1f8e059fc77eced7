// Any bytes as a program.
#include <cstddef>
#include <cstdint>

#include "startup/elf.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  startup::FileBytesView file{ByteView(data, size)};
  const auto elf = startup::parse_elf(file);
  if (!elf.ok()) return 0;
  for (const auto& segment : elf->load) {
    if (segment.offset > size || segment.length > size - segment.offset) __builtin_trap();
  }
  return 0;
}
