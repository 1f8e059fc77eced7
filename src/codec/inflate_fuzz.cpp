// Our DEFLATE decoder and zlib's accept the same data and make the same bytes
// of it, however it is cut into pieces. The first byte seeds the cutting.
#include <cstdlib>

#include "codec/codec_testing.h"
#include "codec/inflate.h"

namespace pagein::codec {
namespace {

constexpr size_t kCap = 1 << 20;

bool inflate_ours(ByteView data, uint32_t seed, Bytes& bytes) {
  std::minstd_rand random(seed + 1);
  static auto inflater = std::make_unique<Inflater>();
  OutputBuffer out(kWindowBytes + 1 + random() % 5000);
  if (seed % 2 == 1) out.references.record(out.next);
  const auto tail = seed % 3 == 0 ? Inflater::Tail::exact : Inflater::Tail::loose;
  BitInput in;
  inflater->start();
  Bytes piece;
  uint8_t* taken = out.next;
  const auto take = [&] {
    bytes.insert(bytes.end(), taken, out.next);
    taken = out.next;
  };
  for (size_t at = 0; bytes.size() < kCap;) {
    auto event = inflater->run(in, out, out.limit_end, tail);
    if (!event.ok()) return false;
    if (*event == Inflater::Event::end) {
      take();
      return true;
    }
    if (*event == Inflater::Event::output_limit) {
      take();
      out.slide(out.next - kWindowBytes);
      taken = out.next;
    }
    if (*event == Inflater::Event::need_input) {
      if (at == data.size()) return false;
      const size_t n = std::min<size_t>(data.size() - at, random() % (seed % 5 == 0 ? 4 : 4000));
      piece = Bytes(data.begin() + static_cast<ptrdiff_t>(at),
                    data.begin() + static_cast<ptrdiff_t>(at + n));
      piece.shrink_to_fit();
      in.set_piece(piece);
      at += n;
    }
  }
  return true;  // longer than is compared
}

}  // namespace
}  // namespace pagein::codec

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein::codec;
  if (size < 1) return 0;
  const pagein::ByteView deflated(data + 1, size - 1);
  pagein::Bytes bytes;
  const bool valid = inflate_ours(deflated, data[0], bytes);
  const testing::Inflated expected = testing::zlib_inflate_raw(deflated, kCap + 70000);
  if (bytes.size() >= kCap || expected.bytes.size() >= kCap) return 0;
  if (valid != expected.valid) std::abort();
  if (valid && bytes != expected.bytes) std::abort();
  return 0;
}
