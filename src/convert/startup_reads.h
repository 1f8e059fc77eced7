// What the start of one image reads: from a trace, a list, or its entry point.
#pragma once

#include <vector>

#include "convert/base_image.h"
#include "convert/layer_reader.h"
#include "convert/startup_options.h"
#include "startup/piece_planner.h"

namespace pagein::convert {

// The trace that is attached to the image, the newest where there are several;
// nullopt where there is none. Blocks. Failures to list referrers count as none.
std::optional<startup::Trace> find_attached_trace(registry::ImageSource& source,
                                                  const oci::Digest& manifest);

struct StartupInputs {
  const PlatformImage* image = nullptr;
  const std::vector<LayerAccess>* layers = nullptr;  // those with an index, lowest first
  const StartupOptions* options = nullptr;
  const startup::Trace* attached = nullptr;  // may be null
};

// The pieces in the order of the start; trace first, then the list's paths, in
// its order. Enters origins and what is unknown in the report. Blocks.
//   corrupt_input, unsupported: the layers cannot be merged, or a span of them is
//     not what the index says.
Result<std::vector<startup::PlannedPiece>> plan_startup(const StartupInputs& inputs,
                                                        StartupReport* report);

}  // namespace pagein::convert
