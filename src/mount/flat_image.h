// A whole image, metadata and contents, as one device: for kernels whose EROFS
// knows neither external devices nor chunks (before 5.16). Internal to mount.
#pragma once

#include <memory>
#include <vector>

#include "mount/device_file.h"
#include "mount/erofs_nodes.h"
#include "mount/metadata_file.h"

namespace pagein::mount {

// One file: the metadata, then each device, then the files that have holes, made
// contiguous. The metadata is a copy in memory, in which each file is a plain run
// of blocks and nothing else differs. Deterministic: what follows from the same
// metadata is the same, so that a successor serves the same device.
//   unsupported: more than 16 TiB.
Result<std::shared_ptr<DeviceFile>> make_flat_image(std::shared_ptr<const MetadataFile> metadata,
                                                    std::vector<NodeDevice> devices);

}  // namespace pagein::mount
