// The walker takes any blocks without harm, and stays within the window.
// Input: window log, then blocks: size (2 bytes), content. What was kept of
// the window makes a payload that can be unpacked again.
#include <algorithm>
#include <cstdlib>

#include "codec/zstd_blocks.h"
#include "codec/zstd_checkpoint.h"

namespace {

using namespace pagein;
using namespace pagein::codec;

void check(bool good) {
  if (!good) std::abort();
}

constexpr size_t kFrameBegin = 1000;

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 1) return 0;
  static ZstdPayloadPacker packer;
  ZstdWindow window;
  ZstdBlockWalker walker;
  const uint64_t window_size = uint64_t{1} << (10 + data[0] % 10);
  walker.begin_frame(kFrameBegin, window_size);
  window.begin_frame(kFrameBegin, window_size);
  bool recording = false;
  ByteView rest(data + 1, size - 1);
  while (rest.size() > 2) {
    const size_t n = std::min<size_t>(rest[0] | rest[1] << 8, rest.size() - 2);
    // Slack as it is promised, and not a byte more.
    Bytes block(n + 2 * ZstdBlockWalker::kSlack, 0xa5);
    std::copy_n(rest.begin() + 2, n, block.begin() + ZstdBlockWalker::kSlack);
    block.shrink_to_fit();
    rest = rest.subspan(2 + n);
    if (!walker.parse(ByteView(block).subspan(ZstdBlockWalker::kSlack, n)).ok()) return 0;
    if (!recording && walker.can_start_here() && !walker.yields_nothing()) {
      walker.begin_entropy();
      window.record(window.end());
      recording = true;
    }
    const auto yields = walker.execute(window);
    if (!yields.ok()) return 0;
    check(*yields <= kZstdMaxBlock);
    window.append(Bytes(*yields, 'x'));
  }
  if (!recording) return 0;
  ZstdCheckpoint checkpoint;
  checkpoint.entropy = walker.take_entropy();
  checkpoint.runs = window.take(&checkpoint.bytes);
  check(checkpoint.bytes.size() == window.kept_bytes());
  if (checkpoint.needs_nothing()) return 0;
  const auto payload = packer.pack(checkpoint);
  check(payload.ok());
  check(make_zstd_dictionary(*payload).ok());
  return 0;
}
