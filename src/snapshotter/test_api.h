// What the tests ask a snapshotter, directly or over gRPC, and helpers to
// mount and compare. Tests only.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "snapshotter/types.h"

namespace pagein::snapshotter {

class Snapshotter;

// The snapshots API, either way.
class Api {
 public:
  virtual ~Api() = default;
  virtual Result<std::vector<Mount>> prepare(const std::string& key, const std::string& parent,
                                             const Labels& labels = {}) = 0;
  virtual Result<std::vector<Mount>> view(const std::string& key, const std::string& parent,
                                          const Labels& labels = {}) = 0;
  virtual Result<std::vector<Mount>> mounts(const std::string& key) = 0;
  virtual Status commit(const std::string& name, const std::string& key,
                        const Labels& labels = {}) = 0;
  virtual Status remove(const std::string& key) = 0;
  virtual Result<Info> stat(const std::string& key) = 0;
  virtual Result<Info> update(const Info& info, const std::vector<std::string>& paths = {}) = 0;
  virtual Result<std::vector<Info>> list(const std::vector<std::string>& filters = {}) = 0;
  virtual Result<Usage> usage(const std::string& key) = 0;
  virtual Status cleanup() = 0;
};

std::unique_ptr<Api> direct_api(Snapshotter& snapshotter);
// Starts a Server on a socket in `dir` and talks to it.
std::unique_ptr<Api> grpc_api(Snapshotter& snapshotter, const std::filesystem::path& dir);

// Whether this process may mount overlays; else tests skip with `why`.
bool can_mount(std::string& why);

// Mounts as a client does; the destructor unmounts. `target` is made.
class Mounted {
 public:
  static Result<Mounted> make(const std::vector<Mount>& mounts,
                              const std::filesystem::path& target);
  Mounted(Mounted&& other) noexcept : target_(std::exchange(other.target_, {})) {}
  Mounted& operator=(Mounted&& other) noexcept;
  ~Mounted();
  const std::filesystem::path& path() const { return target_; }

 private:
  explicit Mounted(std::filesystem::path target) : target_(std::move(target)) {}
  std::filesystem::path target_;
};

// Path -> "type mode uid:gid content": two equal maps are equal trees.
std::map<std::string, std::string> tree_of(const std::filesystem::path& root);

void write_text(const std::filesystem::path& path, const std::string& text, mode_t mode = 0644);
std::string read_text(const std::filesystem::path& path);

}  // namespace pagein::snapshotter
