// Requests as the kernel would send them, one after another, into a session
// whose answers go nowhere.
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>

#include "mount/fuse_session.h"

namespace pagein::mount {
namespace {

class FuzzDevice : public DeviceFile {
 public:
  uint64_t size() const override { return 64 << 10; }
  void read(uint64_t offset, ReadReply reply) override {
    if (offset + reply.length() > size()) __builtin_trap();
    if (offset % 3 == 0) return;  // unanswered
    reply.data(Bytes(reply.length()));
  }
};

}  // namespace
}  // namespace pagein::mount

// Input: pieces of a length byte and that many bytes; each a request whose header
// gets the right length, or not (odd length bytes).
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  using namespace pagein::mount;
  FuseConnectionOptions options;
  options.files = {std::make_shared<FuzzDevice>(), std::make_shared<FuzzDevice>()};
  auto session = std::make_shared<FuseSession>(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)),
                                               std::move(options), [] {});
  ByteView rest(data, size);
  while (!rest.empty()) {
    const uint8_t length = rest[0];
    rest = rest.subspan(1);
    const size_t take = std::min<size_t>(length, rest.size());
    Bytes request(rest.begin(), rest.begin() + static_cast<std::ptrdiff_t>(take));
    rest = rest.subspan(take);
    if (length % 2 == 0 && request.size() >= 4) {
      const auto total = static_cast<uint32_t>(request.size());
      std::memcpy(request.data(), &total, sizeof total);
    }
    session->handle(request);
  }
  if (session->stats().in_flight != 0) __builtin_trap();
  return 0;
}
