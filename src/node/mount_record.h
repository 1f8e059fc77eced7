// What a restart needs to know about the mounts of a merged image: one JSON
// file for each, ROOT/images/KEY/image.json.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "mount/engine.h"

namespace pagein::node {

// One mount of the image. Later ones read more layers from local data.
struct MountRecord {
  uint64_t generation = 0;        // from 1, each later one greater
  std::vector<bool> local;        // by layer: mounted from its local data
  std::set<std::string> holders;  // who needs it
  mount::ImageMountState state;
};

struct ImageRecord {
  std::vector<std::string> layers;  // names in the store, lowest first
  std::vector<std::string> below;   // folders of ordinary layers below, topmost first
  std::string name;                 // for people: the image's reference
  std::vector<MountRecord> mounts;  // oldest first
};

std::string format_image_record(const ImageRecord& record);
// corrupt_input if it is not what format_image_record() wrote.
Result<ImageRecord> parse_image_record(std::string_view json);

}  // namespace pagein::node
