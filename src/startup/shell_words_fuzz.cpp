// Any bytes as a script: bounded, and no command is empty.
#include <cstddef>
#include <cstdint>

#include "startup/shell_words.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  size_t words = 0;
  for (const auto& command : startup::shell_commands({reinterpret_cast<const char*>(data), size})) {
    if (command.empty()) __builtin_trap();
    words += command.size();
  }
  if (words > startup::kMaxShellWords) __builtin_trap();
  return 0;
}
