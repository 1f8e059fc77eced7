// Requests as the kernel would send them, one after another, into a session
// whose answers go nowhere.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>

#include "mount/erofs_nodes.h"
#include "mount/fuse_session.h"
#include "mount/probe_image.h"

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

// A tree with a file of the device, one with a hole, an empty one, a link and
// attributes.
std::shared_ptr<FuseNodes> tree_nodes() {
  tar::Entry sparse = probe_file("dir/sparse", 100'000);
  sparse.sparse = true;
  sparse.segments = {{8192, 4096}};
  sparse.content_length = 4096;
  tar::Entry link;
  link.type = tar::EntryType::symlink;
  link.path = "link";
  link.link_target = "dir/file";
  tar::Entry file = probe_file("dir/file", 50'000);
  file.xattrs = {{"user.a", "value"}};
  const Bytes image = probe_image({{file, sparse, link, probe_file("dir/empty", 0)}}).value();
  const UniqueFd memory(::memfd_create("image", MFD_CLOEXEC));
  if (!write_full(memory.get(), image).ok()) __builtin_trap();
  auto metadata = MetadataFile::open("/proc/self/fd/" + std::to_string(memory.get()), 1).value();
  return make_erofs_nodes(std::move(metadata), {{std::make_shared<FuzzDevice>(), nullptr}});
}

// Pieces of a length byte and that many bytes; each a request whose header gets
// the right length, or not (odd length bytes).
void serve(ByteView rest, FuseConnectionOptions options) {
  auto session = std::make_shared<FuseSession>(UniqueFd(::open("/dev/null", O_RDWR | O_CLOEXEC)),
                                               std::move(options), [] {});
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
}

}  // namespace
}  // namespace pagein::mount

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein::mount;
  static const std::shared_ptr<FuseNodes> tree = tree_nodes();
  FuseConnectionOptions devices;
  devices.files = {std::make_shared<FuzzDevice>(), std::make_shared<FuzzDevice>()};
  serve({data, size}, std::move(devices));
  FuseConnectionOptions nodes;
  nodes.nodes = tree;
  serve({data, size}, std::move(nodes));
  return 0;
}
