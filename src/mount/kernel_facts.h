// What this machine's kernel offers, for people to read; engines are chosen by
// probing (engine_set.h), not by these.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"

namespace pagein::mount {

struct KernelFact {
  std::string name;
  bool there = false;
  std::string note;  // what it means where it is not there; may be empty
};

struct KernelFacts {
  std::string release;
  std::vector<KernelFact> facts;
};

// May load kernel modules, as mounting would. `fuse_flags`: the INIT flags that a
// FUSE connection saw (FuseSessionState::init_flags); 0: none was made.
KernelFacts load_kernel_facts(uint64_t fuse_flags);

// The type of the file system at `path`: "ext4", "xfs", ..., or its magic number.
Result<std::string> file_system_type(const std::string& path);

}  // namespace pagein::mount
