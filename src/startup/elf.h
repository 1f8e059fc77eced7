// What the kernel and the dynamic loader look for in a program (System V ABI,
// gABI 4.1 chapters 4 and 5).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "startup/file_bytes.h"

namespace pagein::startup {

struct ElfFile {
  bool is_64 = false;
  uint16_t machine = 0;             // EM_...
  std::string interpreter;          // PT_INTERP; "" where there is none
  std::vector<std::string> needed;  // DT_NEEDED, in order
  std::string rpath;                // DT_RPATH, as written; "" where DT_RUNPATH counts
  std::string runpath;              // DT_RUNPATH
  struct Segment {
    uint64_t offset;  // in the file
    uint64_t length;
  };
  std::vector<Segment> load;  // PT_LOAD, in order; what the kernel maps
};

// not_found: no ELF file. corrupt_input: one whose tables make no sense; what
// was found before that is lost. Reads the header, the program headers, the
// dynamic section and the strings that it names; each is bounded. May block as
// `file` does.
Result<ElfFile> parse_elf(FileBytes& file);

}  // namespace pagein::startup
