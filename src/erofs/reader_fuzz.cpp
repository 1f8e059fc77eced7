// Any bytes as an image; the superblock's checksum is made right first, so that it
// does not keep the rest from being tried.
#include <cstring>

#include "erofs/dump.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  using namespace pagein::erofs;
  Bytes image(data, data + size);
  if (image.size() >= kBlock) {
    uint8_t* checksum = image.data() + kSuperOffset + 4;
    std::memset(checksum, 0, 4);
    store_le<uint32_t>(checksum, crc32c(~0u, image.data() + kSuperOffset, kBlock - kSuperOffset));
  }
  const auto reader = Reader::open(image);
  if (!reader.ok()) return 0;
  (void)dump(*reader).ok();
  for (uint64_t nid = 0; nid < 64; ++nid) {  // what FUSE requests may ask for
    const auto inode = reader->inode(nid);
    if (!inode.ok()) continue;
    (void)reader->find(*inode, "name").ok();
    (void)reader->list_block(*inode, 1).ok();
    (void)reader->stored_bytes(*inode).ok();
    if (const auto run = reader->run_at(*inode, 4097, 10'000); run.ok() && !run->hole) {
      const uint64_t end = run->device_byte + run->length;
      if (run->length == 0 || end > (reader->devices()[run->device].blocks + 1) * kBlock) {
        __builtin_trap();
      }
    }
  }
  return 0;
}
