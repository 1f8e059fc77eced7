#include "codec/seek_table.h"

namespace pagein::codec {
namespace {

constexpr uint32_t kSkippableMagic = 0x184D2A5E;
constexpr uint32_t kSeekableMagic = 0x8F92EAB1;
constexpr uint32_t kMaxFrames = 0x8000000;
constexpr uint64_t kMaxFrameBytes = 0x40000000;
constexpr uint32_t kFooterBytes = 4 + 1 + 4;

}  // namespace

Status SeekTable::add(uint64_t compressed, uint64_t uncompressed) {
  if (count_ == kMaxFrames || compressed > UINT32_MAX || uncompressed > kMaxFrameBytes) {
    return Error(Code::exhausted, "the layer has more frames than a seek table can hold");
  }
  entries_.u32(static_cast<uint32_t>(compressed));
  entries_.u32(static_cast<uint32_t>(uncompressed));
  ++count_;
  return {};
}

Bytes SeekTable::finish() {
  ByteWriter frame;
  frame.u32(kSkippableMagic);
  frame.u32(static_cast<uint32_t>(entries_.size()) + kFooterBytes);
  frame.bytes(entries_.buffer());
  frame.u32(count_);
  frame.u8(0);
  frame.u32(kSeekableMagic);
  return frame.take();
}

}  // namespace pagein::codec
