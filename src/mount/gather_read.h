// One read answered from several places. Internal to mount.
#pragma once

#include <atomic>
#include <memory>

#include "mount/device_file.h"

namespace pagein::mount {

// Collects the parts of a read, answered by anybody in any order, and answers the
// whole once none is left: with an error if a part has one, not at all if a part
// was left unanswered (ReadReply::leave). What no part covers is zeros.
// Thread-safe after the parts are made.
class GatherRead : public ReadSink, public std::enable_shared_from_this<GatherRead> {
 public:
  explicit GatherRead(ReadReply whole) : whole_(std::move(whole)), bytes_(whole_.length()) {}
  ~GatherRead() override;

  // The reply of the part at [offset, offset + length) of the whole. All parts are
  // made, by one thread, before the object is let go of.
  ReadReply part(uint32_t offset, uint32_t length);

  void finish_data(uint64_t part, uint32_t length, std::span<const ByteView> pieces) override;
  void finish_file(uint64_t part, uint32_t length, int fd, uint64_t offset) override;
  void finish_error(uint64_t part, uint32_t length, int error) override;

 private:
  ReadReply whole_;
  Bytes bytes_;  // parts do not overlap: each is written by who answers it
  std::atomic<uint32_t> asked_{0};
  std::atomic<uint32_t> answered_{0};
  std::atomic<int> error_{0};
};

}  // namespace pagein::mount
