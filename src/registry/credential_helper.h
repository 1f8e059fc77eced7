// Docker's credential helpers: docker-credential-NAME get (docker-credential-
// helpers, "Development").
#pragma once

#include <chrono>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/result.h"
#include "registry/credentials.h"

namespace pagein::registry {

// Asks the helper for `host` ("docker.io" for Docker Hub). Empty credentials:
// it has none. Blocks, 30 s at most. invalid_argument: a name with a slash.
Result<Credentials> ask_credential_helper(std::string_view helper, std::string_view host);

// The helper's answer; the user name "<token>" marks an identity token. Pure.
Result<Credentials> parse_helper_answer(ByteView json);

}  // namespace pagein::registry
