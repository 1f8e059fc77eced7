#include "mount/fuse_protocol.h"

#include <algorithm>

namespace pagein::mount {

Result<FuseRequest> parse_fuse_request(ByteView bytes) {
  fuse_in_header header;
  if (bytes.size() < sizeof header) {
    return Error(Code::corrupt_input, "FUSE request is shorter than its header");
  }
  std::memcpy(&header, bytes.data(), sizeof header);
  if (header.len != bytes.size()) {
    return Error(Code::corrupt_input, "FUSE request of " + std::to_string(bytes.size()) +
                                          " bytes says it has " + std::to_string(header.len));
  }
  return FuseRequest{header.opcode, header.unique, header.nodeid, bytes.subspan(sizeof header)};
}

Result<std::string_view> parse_fuse_name(const FuseRequest& request) {
  const std::string_view text = as_text(request.body);
  const size_t end = text.find('\0');
  if (end == std::string_view::npos) {
    return Error(Code::corrupt_input, "FUSE name has no end");
  }
  return text.substr(0, end);
}

Result<fuse_init_in> parse_fuse_init(const FuseRequest& request) {
  // Up to max_readahead and flags since 7.6; flags2 since 7.36.
  constexpr size_t kOldSize = offsetof(fuse_init_in, flags2);
  if (request.body.size() < kOldSize) {
    return Error(Code::corrupt_input, "FUSE INIT is too short");
  }
  fuse_init_in init{};
  std::memcpy(&init, request.body.data(), std::min(request.body.size(), sizeof init));
  return init;
}

}  // namespace pagein::mount
