// What a snapshot is, as containerd's snapshots API sees it (containerd
// api/services/snapshots/v1, 1.6 to 2.x). Plain values; thread-compatible.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace pagein::snapshotter {

using Labels = std::map<std::string, std::string>;
// Nanoseconds since the Unix epoch, UTC.
using Time = std::chrono::sys_time<std::chrono::nanoseconds>;

// The API's numbers; also what the database stores.
enum class Kind { view = 1, active = 2, committed = 3 };

struct Info {
  std::string name;    // key of a view or active snapshot, name of a committed one
  std::string parent;  // name of a committed snapshot; empty: none
  Kind kind = Kind::active;
  Time created{};
  Time updated{};
  Labels labels;  // never with an empty value
};

// What a snapshot takes by itself, without its parents.
struct Usage {
  uint64_t size = 0;  // bytes
  uint64_t inodes = 0;
};

// What the client passes to mount(2); options in fstab's spelling.
struct Mount {
  std::string type;  // "bind" or "overlay"
  std::string source;
  std::vector<std::string> options;
  bool operator==(const Mount&) const = default;
};

// The label by which a client says which layer chain it is about to unpack:
// its value is the chain ID (containerd snapshots/snapshotter.go).
inline constexpr char kSnapshotRefLabel[] = "containerd.io/snapshot.ref";

}  // namespace pagein::snapshotter
