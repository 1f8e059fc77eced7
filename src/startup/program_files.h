// The files that running a program needs before its own code decides: the
// program, its ELF interpreter and its shared libraries.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <unordered_set>
#include <vector>

#include "startup/elf.h"
#include "startup/file_bytes.h"
#include "startup/image_files.h"

namespace pagein::startup {

// What a start reads of a file.
struct StartupFile {
  tree::NodeId node = 0;
  std::vector<ElfFile::Segment> parts;  // empty: all of it
};

// Opens a regular file of the image for reading.
using OpenFile = std::function<Result<std::unique_ptr<FileBytes>>(tree::NodeId)>;

inline constexpr size_t kMaxStartupFiles = 20'000;
// Files that are looked into; each takes some reads.
inline constexpr size_t kMaxOpenedFiles = 1000;

// Collects files, each once, in the order in which they are named. Where the
// limits above are reached the rest is left out. Thread-compatible. What is not
// as it should be (a broken ELF file, a library that is not there) is passed
// over; errors are those of reading.
class ProgramFiles {
 public:
  // `library_path`: LD_LIBRARY_PATH. Views and `open` must outlive it.
  ProgramFiles(const ImageFiles& files, std::string_view library_path, const OpenFile& open)
      : files_(files), library_path_(library_path), open_(open) {}

  void add(tree::NodeId node) { add({node, {}}); }
  // The file; if it is an ELF file, the segments that are loaded, then its
  // interpreter and all libraries, breadth first as the loader has them.
  Status add_program(tree::NodeId node);
  // The first bytes of a file; fewer where it is shorter, none beyond the limits.
  Result<std::string> read(tree::NodeId node, uint64_t length);

  std::vector<StartupFile> take() { return std::move(out_); }

 private:
  struct Wanted {
    tree::NodeId node;
    std::string rpath;  // of who needs it, which counts for it too
  };
  bool add(StartupFile file);
  Status add_one(const Wanted& wanted, std::vector<Wanted>* queue);
  Result<std::unique_ptr<FileBytes>> open(tree::NodeId node);
  std::optional<tree::NodeId> find_library(const std::string& name, const ElfFile& elf,
                                           const Wanted& by);
  // Directories of ld.so.conf and those that are searched anyway.
  Status read_default_directories(const ElfFile& elf);
  Status read_loader_config(const std::string& path, int depth);

  const ImageFiles& files_;
  const std::string library_path_;
  const OpenFile& open_;
  std::vector<std::string> directories_;
  bool has_directories_ = false;
  size_t opened_ = 0;
  std::unordered_set<tree::InodeId> seen_;
  std::vector<StartupFile> out_;
};

}  // namespace pagein::startup
