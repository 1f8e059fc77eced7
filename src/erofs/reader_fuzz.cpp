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
  if (reader.ok()) (void)dump(*reader).ok();
  return 0;
}
