// The control API's part on credentials: Secrets come in, names come out.
#pragma once

#include <string>
#include <string_view>

#include "node/node.h"

namespace pagein::control {

// {"credentials": [NAME, ...]}; never what they are.
std::string credentials_json(node::Node& node);

// {"name": text, "docker_config": text or object} replaces what has that name;
// invalid_argument, corrupt_input.
Status put_credentials(node::Node& node, std::string_view body);
// {"name": text}; not_found.
Status remove_credentials(node::Node& node, std::string_view body);

}  // namespace pagein::control
