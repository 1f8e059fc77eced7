// A FUSE file system that shows what an image's EROFS metadata says.
// Internal to mount.
#pragma once

#include <memory>
#include <vector>

#include "mount/fuse_nodes.h"
#include "mount/metadata_file.h"

namespace pagein::mount {

// Where a device's bytes come from: exactly one is set.
struct NodeDevice {
  std::shared_ptr<DeviceFile> file;
  std::shared_ptr<UniqueFd> local;
};

// Node ids follow from the metadata alone: FUSE_ROOT_ID is its root, any other
// inode its nid + 2. One device for each of the metadata's. Nothing is kept for a
// node, so FORGET means nothing.
std::shared_ptr<FuseNodes> make_erofs_nodes(std::shared_ptr<const MetadataFile> metadata,
                                            std::vector<NodeDevice> devices);

}  // namespace pagein::mount
