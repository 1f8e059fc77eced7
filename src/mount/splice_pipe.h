// A file's bytes into another descriptor without copying them through memory.
// Internal to mount.
#pragma once

#include "base/file.h"
#include "base/unique_fd.h"

namespace pagein::mount {

// A pipe that a reply is put together in. Confined to the thread that made it.
class SplicePipe {
 public:
  // This thread's, made at first use.
  static SplicePipe& of_thread();

  // Whether `length` bytes of a file and a small header fit; false always where
  // the system refuses pipes of the size.
  bool fits(uint64_t length);

  // Sends `header` and then `length` bytes of `file` from `offset` to `out`, in
  // one piece or not at all. False: nothing was sent (the file ends early, or
  // cannot be spliced). True: sent, or refused by `out`.
  bool send(int out, ByteView header, int file, uint64_t offset, uint64_t length);

 private:
  bool open();
  bool fill(ByteView header, int file, uint64_t offset, uint64_t length);

  UniqueFd read_, write_;
  bool unusable_ = false;
};

}  // namespace pagein::mount
