// A backend whose layers are plain folders. Tests only.
#pragma once

#include <sys/mount.h>

#include <filesystem>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "snapshotter/remote_backend.h"
#include "snapshotter/test_api.h"

namespace pagein::snapshotter {

// Serves the chain IDs in `offered`: ref -> a folder with the layer's tree.
// The reference it hands out is "layer:" + ref. With `mounting`, a run is a
// real read-only mount; without, it is a folder that is not looked into.
class FakeBackend final : public RemoteBackend {
 public:
  FakeBackend(std::filesystem::path dir, bool mounting)
      : dir_(std::move(dir)), mounting_(mounting) {
    std::filesystem::create_directories(dir_);
  }
  ~FakeBackend() override {
    for (auto& [key, run] : runs) unmount(run.dir);
  }

  struct Run {
    RunRequest request;
    std::string dir;
  };

  Result<std::optional<std::string>> prepare_layer(const LayerRequest& request) override {
    const std::lock_guard lock(mutex);
    requests.push_back(request);
    if (on_prepare) on_prepare();
    if (fail_prepare) return Error(Code::unavailable, "the registry is away");
    if (!offered.contains(request.snapshot_ref)) return std::optional<std::string>();
    return std::optional<std::string>("layer:" + request.snapshot_ref);
  }

  Result<std::vector<std::string>> mount_run(const RunRequest& request) override {
    const std::lock_guard lock(mutex);
    if (fail_mount) return Error(Code::unavailable, "cannot mount");
    std::string key = request.holder;
    for (const std::string& layer : request.layers) key += " " + layer;
    if (auto it = runs.find(key); it != runs.end()) return std::vector{it->second.dir};
    const std::string dir = (dir_ / ("run-" + std::to_string(++count_))).string();
    std::filesystem::create_directory(dir);
    if (mounting_) RETURN_IF_ERROR(mount(request, dir));
    runs[key] = {request, dir};
    return std::vector{dir};
  }

  void release(const std::string& holder) override {
    const std::lock_guard lock(mutex);
    std::erase_if(runs, [&](auto& entry) {
      if (entry.second.request.holder != holder) return false;
      unmount(entry.second.dir);
      return true;
    });
  }

  Result<Usage> usage(const std::string&) override { return Usage{4096, 7}; }

  void remove_layer(const std::string& layer, const std::string&) override {
    const std::lock_guard lock(mutex);
    removed.push_back(layer);
  }

  void finish_reattach(const std::vector<std::string>& layers) override {
    const std::lock_guard lock(mutex);
    live = layers;
  }

  std::set<std::string> holders() {
    const std::lock_guard lock(mutex);
    std::set<std::string> out;
    for (const auto& [key, run] : runs) out.insert(run.request.holder);
    return out;
  }

  std::mutex mutex;
  std::map<std::string, std::string> offered;
  bool fail_prepare = false;
  bool fail_mount = false;
  std::function<void()> on_prepare;
  std::vector<LayerRequest> requests;
  std::map<std::string, Run> runs;
  std::vector<std::string> removed;
  std::vector<std::string> live;

 private:
  Status mount(const RunRequest& request, const std::string& dir) {
    std::string lowers;
    for (auto it = request.layers.rbegin(); it != request.layers.rend(); ++it) {
      lowers += (lowers.empty() ? "" : ":") + offered.at(it->substr(6));
    }
    const bool one = request.layers.size() == 1;
    if (::mount(one ? lowers.c_str() : "overlay", dir.c_str(), one ? "" : "overlay",
                one ? MS_BIND : MS_RDONLY, ("lowerdir=" + lowers).c_str()) != 0) {
      return errno_error(errno, "fake mount");
    }
    return {};
  }
  void unmount(const std::string& dir) {
    if (mounting_) ::umount2(dir.c_str(), MNT_DETACH);
  }

  const std::filesystem::path dir_;
  const bool mounting_;
  int count_ = 0;
};

}  // namespace pagein::snapshotter
