// The smallest useful EROFS image: one directory of files, each one contiguous
// run of blocks of an external device. For probing the kernel and for tests;
// images are written by src/erofs.
#pragma once

#include <string>
#include <vector>

#include "base/file.h"

namespace pagein::mount {

struct TinyFile {
  std::string name;
  uint64_t size = 0;           // bytes
  uint16_t device = 1;         // 1 is the first external device
  uint32_t first_block = 0;    // in the device
  uint16_t mode = 0644;
};

struct TinyImage {
  std::vector<uint64_t> device_sizes;  // bytes, multiples of 4096
  std::vector<TinyFile> files;
};

// The metadata file's bytes: superblock, device table, one compact inode a file
// (the format of the kernel's fs/erofs/erofs_fs.h). Files in any order; names
// are unique, and few enough to fit 256 directory blocks.
Bytes tiny_erofs_metadata(const TinyImage& image);

}  // namespace pagein::mount
