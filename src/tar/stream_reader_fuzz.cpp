// Any bytes, cut into pieces: whatever the reader emits keeps entry.h's word,
// and the cuts make no difference.

#include <cstdlib>

#include "tar/stream_reader.h"

namespace {

using namespace pagein;  // NOLINT

void require(bool condition) {
  if (!condition) std::abort();
}

struct Checker : tar::EntrySink {
  Status on_entry(const tar::Entry& entry) override {
    ++count;
    require(entry.path.find('\0') == std::string::npos);
    require(entry.mtime_nsec < 1'000'000'000);
    require(entry.content_offset % tar::kBlockSize == 0);
    require(entry.content_offset >= last_end);
    last_end = entry.content_offset + entry.content_length;
    uint64_t at = 0;
    uint64_t total = 0;
    for (const tar::SparseSegment& segment : entry.segments) {
      require(segment.length > 0 && segment.file_offset >= at);
      at = segment.file_offset + segment.length;
      total += segment.length;
    }
    require(at <= entry.size);
    require(entry.content_length == (entry.sparse ? total : entry.size));
    return {};
  }
  uint64_t count = 0;
  uint64_t last_end = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Checker whole;
  tar::StreamReader reader(whole);
  const bool ok = reader.feed({data, size}).ok() && reader.finish().ok();

  Checker pieces;
  tar::StreamReader other(pieces);
  bool other_ok = true;
  for (size_t at = 0, step = 1; at < size && other_ok; at += step, step = step * 7 % 1021 + 1) {
    other_ok = other.feed({data + at, std::min(step, size - at)}).ok();
  }
  other_ok = other_ok && other.finish().ok();
  require(ok == other_ok && whole.count == pieces.count);
  return 0;
}
