// A layer that is still being loaded, as a device file of a mounted image.
#pragma once

#include <memory>
#include <string>

#include "fetch/layer_pager.h"
#include "mount/device_file.h"
#include "node/read_recorder.h"

namespace pagein::node {

// Answers from the layer's data file what is there, and what is missing when
// it has come. `image` names the image in error logs. Thread-safe; never
// blocks on the network. Reads that wait while the context stops are left to
// the kernel, unanswered. `recorder`, where there is one, is told of each read.
std::shared_ptr<mount::DeviceFile> make_layer_device(fetch::Context& context,
                                                     std::shared_ptr<fetch::LayerPager> pager,
                                                     std::string image,
                                                     std::shared_ptr<ReadRecorder> recorder = {});

}  // namespace pagein::node
