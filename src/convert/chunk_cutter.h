// Decides where the chunks of a re-encoded layer end.
#pragma once

#include <cstdint>
#include <vector>

namespace pagein::convert {

// A chunk is what a node fetches and decodes at once, so chunks end where
// reading profits:
//  - files up to the target's length are never split; files next to each other
//    share a chunk until it has that length;
//  - longer ones are cut at multiples of the target, counted from the file's
//    begin: an aligned read of any power of two up to it needs one chunk;
//  - cuts fall on content, not on headers: nobody reads those one by one.
// So a chunk has at least a quarter of the target (but for the last one), mostly
// between half of it and all of it, and never more than twice it (what is not
// content may be that long).
//
// Told of files in order, before their content, and of how far the tar has
// been read. The cuts depend on the files and the target alone, not on how the
// tar came in pieces. Pure; thread-compatible.
class ChunkCutter {
 public:
  explicit ChunkCutter(uint64_t target) : target_(target) {}

  // `length` bytes of content at offset `begin` of the tar; length > 0.
  void on_content(uint64_t begin, uint64_t length);
  // All content that begins before `offset` has been told.
  void on_read(uint64_t offset);
  // Offsets where a chunk ends and the next one begins, ascending, in order of
  // decision; those not taken yet. None is beyond on_read()'s offset.
  std::vector<uint64_t> take_cuts();

  uint64_t max_chunk() const { return 2 * target_; }

 private:
  void cut(uint64_t at);
  // All that is decided by the file at hand and the limit, up to `offset`.
  void advance(uint64_t offset);

  const uint64_t target_;
  uint64_t last_ = 0;       // where the current chunk begins
  uint64_t next_step_ = 0;  // next cut within a long file
  uint64_t steps_end_ = 0;  // no such cut from here on
  std::vector<uint64_t> cuts_;
};

}  // namespace pagein::convert
