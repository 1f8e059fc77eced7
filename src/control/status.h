// The node's state as documents: JSON for the control API (docs/control-api.md)
// and text for Prometheus (docs/metrics.md).
#pragma once

#include <string>

#include "node/node.h"

namespace pagein::control {

std::string status_json(node::Node& node);
// Of the image: what is needed to run it.
std::string recording_json(const node::Node::RecordingStart& start);
std::string doctor_json(node::Node& node);
std::string declines_json(node::Node& node);
std::string metrics_text(node::Node& node);

}  // namespace pagein::control
