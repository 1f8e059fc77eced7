#include "startup/program_files.h"

#include <algorithm>

namespace pagein::startup {
namespace {

constexpr size_t kMaxDirectories = 256;
constexpr size_t kMaxConfigBytes = 64 << 10;
constexpr int kMaxIncludes = 4;  // of ld.so.conf, one in the other

// Debian's directories for libraries, by e_machine.
std::string_view multiarch(uint16_t machine) {
  switch (machine) {
    case 3: return "i386-linux-gnu";
    case 21: return "powerpc64le-linux-gnu";
    case 22: return "s390x-linux-gnu";
    case 40: return "arm-linux-gnueabihf";
    case 62: return "x86_64-linux-gnu";
    case 183: return "aarch64-linux-gnu";
    case 243: return "riscv64-linux-gnu";
    default: return {};
  }
}

std::vector<std::string> split(std::string_view text, std::string_view separators) {
  std::vector<std::string> parts;
  while (!text.empty() && parts.size() < kMaxDirectories) {
    const size_t end = std::min(text.find_first_of(separators), text.size());
    if (end > 0) parts.emplace_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

void replace_all(std::string* text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text->find(from, at)) != std::string::npos; at += to.size()) {
    text->replace(at, from.size(), to);
    if (text->size() > 4096) return;
  }
}

std::string directory_of(const std::string& path) { return path.substr(0, path.rfind('/')); }

}  // namespace

bool ProgramFiles::add(StartupFile file) {
  if (out_.size() >= kMaxStartupFiles) return false;
  if (!seen_.insert(files_.tree().inode(file.node)).second) return false;
  out_.push_back(std::move(file));
  return true;
}

Result<std::unique_ptr<FileBytes>> ProgramFiles::open(tree::NodeId node) {
  if (opened_ >= kMaxOpenedFiles) return Error(Code::not_found, "too many files");
  ++opened_;
  return open_(node);
}

Result<std::string> ProgramFiles::read(tree::NodeId node, uint64_t length) {
  auto file = open(node);
  if (!file.ok() && file.error().code == Code::not_found) return std::string();
  RETURN_IF_ERROR(file);
  ASSIGN_OR_RETURN(const Bytes bytes, (*file)->read(0, length));
  return std::string(as_text(bytes));
}

Status ProgramFiles::add_program(tree::NodeId node) {
  std::vector<Wanted> queue = {{node, {}}};
  for (size_t i = 0; i < queue.size() && i < kMaxStartupFiles; ++i) {
    const Wanted wanted = queue[i];
    RETURN_IF_ERROR(add_one(wanted, &queue));
  }
  return {};
}

Status ProgramFiles::add_one(const Wanted& wanted, std::vector<Wanted>* queue) {
  if (seen_.contains(files_.tree().inode(wanted.node))) return {};
  auto file = open(wanted.node);
  if (!file.ok() && file.error().code == Code::not_found) {
    add(wanted.node);
    return {};
  }
  RETURN_IF_ERROR(file);
  auto elf = parse_elf(**file);
  if (!elf.ok()) {
    add(wanted.node);
    const Code code = elf.error().code;
    if (code == Code::not_found || code == Code::corrupt_input) return {};
    return elf.error();
  }
  add({wanted.node, elf->load});
  RETURN_IF_ERROR(read_default_directories(*elf));
  if (!elf->interpreter.empty()) {
    if (const auto loader = files_.resolve_file(elf->interpreter)) queue->push_back({*loader, {}});
  }
  std::string rpath = elf->rpath.empty() ? wanted.rpath : elf->rpath;
  replace_all(&rpath, "$ORIGIN", directory_of(files_.path(wanted.node)));
  for (const std::string& name : elf->needed) {
    if (const auto library = find_library(name, *elf, wanted)) queue->push_back({*library, rpath});
  }
  return {};
}

// ld.so(8), "shared object dependencies". A candidate for another machine is
// not told apart before it is opened; images rarely have both in one directory.
std::optional<tree::NodeId> ProgramFiles::find_library(const std::string& name, const ElfFile& elf,
                                                       const Wanted& by) {
  if (name.find('/') != std::string::npos) return files_.resolve_file(name);
  const std::string origin = directory_of(files_.path(by.node));
  std::vector<std::string> directories;
  const auto search = [&](std::string path, std::string_view separators) {
    replace_all(&path, "$ORIGIN", origin);
    replace_all(&path, "${ORIGIN}", origin);
    replace_all(&path, "$LIB", elf.is_64 ? "lib64" : "lib");
    for (std::string& part : split(path, separators)) directories.push_back(std::move(part));
  };
  if (elf.runpath.empty()) {
    search(elf.rpath, ":");
    search(by.rpath, ":");
  }
  search(library_path_, ":;");
  search(elf.runpath, ":");
  directories.insert(directories.end(), directories_.begin(), directories_.end());
  for (const std::string& directory : directories) {
    if (const auto node = files_.resolve_file(directory + "/" + name)) return node;
  }
  return std::nullopt;
}

Status ProgramFiles::read_default_directories(const ElfFile& elf) {
  if (has_directories_) return {};
  has_directories_ = true;
  if (elf.interpreter.find("ld-musl") != std::string::npos) {
    const std::string name = elf.interpreter.substr(elf.interpreter.rfind('/') + 1);
    const auto config = files_.resolve_file("/etc/" + name.substr(3, name.find('.') - 3) + ".path");
    if (config) {
      add(*config);
      ASSIGN_OR_RETURN(const std::string text, read(*config, kMaxConfigBytes));
      directories_ = split(text, ":\n");
    }
  } else {
    if (const auto cache = files_.resolve_file("/etc/ld.so.cache")) add(*cache);
    RETURN_IF_ERROR(read_loader_config("/etc/ld.so.conf", 0));
  }
  const std::string triplet(multiarch(elf.machine));
  if (!triplet.empty()) {
    directories_.push_back("/lib/" + triplet);
    directories_.push_back("/usr/lib/" + triplet);
  }
  for (const char* directory : {"/lib", "/usr/local/lib", "/usr/lib"}) {
    if (elf.is_64) directories_.push_back(std::string(directory) + "64");
    directories_.emplace_back(directory);
  }
  return {};
}

// "include PATTERN": of patterns, "DIR/*.conf" alone is known.
Status ProgramFiles::read_loader_config(const std::string& path, int depth) {
  const auto config = files_.resolve_file(path);
  if (!config || depth > kMaxIncludes) return {};
  ASSIGN_OR_RETURN(const std::string text, read(*config, kMaxConfigBytes));
  for (const std::string& line : split(text, "\n")) {
    const std::vector<std::string> words = split(line, " \t,:=");
    if (words.empty() || words[0].starts_with('#')) continue;
    if (words[0] != "include") {
      if (directories_.size() < kMaxDirectories) directories_.push_back(words[0]);
      continue;
    }
    for (size_t i = 1; i < words.size(); ++i) {
      if (!words[i].ends_with("/*.conf")) {
        RETURN_IF_ERROR(read_loader_config(words[i], depth + 1));
        continue;
      }
      const std::string directory = directory_of(words[i]);
      const auto node = files_.resolve(directory);
      if (!node) continue;
      const tree::Tree& tree = files_.tree();
      const auto children = tree.children(tree.inode(*node));
      for (uint32_t c = 0; c < std::min<uint32_t>(children.count, kMaxDirectories); ++c) {
        const std::string name(tree.name(children.first + c));
        if (!name.ends_with(".conf")) continue;
        RETURN_IF_ERROR(read_loader_config(directory + "/" + name, depth + 1));
      }
    }
  }
  return {};
}

}  // namespace pagein::startup
