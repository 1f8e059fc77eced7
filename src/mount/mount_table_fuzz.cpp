#include "mount/mount_table.h"

#include "base/file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  (void)pagein::mount::parse_mountinfo(pagein::as_text({data, size}));
  return 0;
}
