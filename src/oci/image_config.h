// The image config: what to run and which diffIDs make the root filesystem
// (OCI image-spec v1.1 config.md; Docker's is the same for what is read here).
#pragma once

#include <map>
#include <span>
#include <string>
#include <vector>

#include "oci/descriptor.h"

namespace pagein::oci {

struct ImageConfig {
  Platform platform;
  std::vector<Digest> diff_ids;  // lowest layer first
  std::string created;           // RFC 3339 as written; may be empty

  // The "config" object.
  std::vector<std::string> entrypoint;
  std::vector<std::string> cmd;
  std::vector<std::string> env;  // "NAME=value"
  std::vector<std::string> volumes;
  std::vector<std::string> exposed_ports;
  std::map<std::string, std::string> labels;
  std::string working_dir;
  std::string user;
  std::string stop_signal;
};

// Pure, thread-safe. corrupt_input names what is broken; at most
// kMaxConfigSize bytes and kMaxLayers diffIDs.
Result<ImageConfig> parse_image_config(ByteView json);

// chainID of each layer (OCI image-spec v1.1 config.md "Layer ChainID"):
// result[i] covers diff_ids[0..i].
std::vector<Digest> chain_ids(std::span<const Digest> diff_ids);

}  // namespace pagein::oci
