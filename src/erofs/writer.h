// Writes a tree as EROFS metadata: one image without file contents, which lie on
// one external device per layer (that layer's data file, see data_layout.h).
// docs/formats/erofs.md describes what comes out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "tree/tree.h"

namespace pagein::erofs {

// Caps; beyond them the answer is `unsupported` and names the file.
inline constexpr uint64_t kMaxImageSize = 4ULL << 30;
inline constexpr size_t kMaxDevices = 65535;

struct Device {
  std::string tag;      // at most 64 bytes, shown by dump.erofs; the layer's digest in hex
  uint64_t blocks = 0;  // of kBlockSize; the file must have at least this size
};

struct WriteOptions {
  // One for each of tree.layers(), in that order: layer i is device i + 1.
  std::vector<Device> devices;
};

// `tags` (one per layer, or none) and the layouts' sizes.
WriteOptions options_for(const tree::Tree& tree, const std::vector<std::string>& tags = {});

// A multiple of kBlockSize. Pure, deterministic: the same tree and options give the
// same bytes. Thread-safe. Linear in names and xattrs, plus 8 bytes per chunk of a
// sparse file: its chunks are as large as its holes' edges allow.
//   invalid_argument: devices do not fit the tree.
//   unsupported: an xattr or a file that EROFS cannot hold, or the caps above.
Result<Bytes> write_metadata(const tree::Tree& tree, const WriteOptions& options);

}  // namespace pagein::erofs
