// JSON and YAML that reach this folder: Docker's config, token answers, error
// bodies, credential programs' configuration and answers.
#include "base/file.h"
#include "registry/auth.h"
#include "registry/base64.h"
#include "registry/credential_helper.h"
#include "registry/docker_config.h"
#include "registry/go_duration.h"
#include "registry/http_errors.h"
#include "registry/image_store.h"
#include "registry/kubelet_credentials.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  using namespace pagein::registry;
  const ByteView bytes(data, size);
  if (const auto config = DockerConfig::parse(bytes); config.ok()) {
    static_cast<void>(config->find("docker.io/library/debian"));
    static_cast<void>(config->helper("docker.io/library/debian"));
  }
  if (const auto answer = parse_token_answer(bytes); answer.ok()) {
    for (const char c : answer->token) {
      if (c <= ' ') std::abort();
    }
  }
  static_cast<void>(error_of_response("GET x", 500, as_text(bytes)));
  if (const auto location = parse_location(as_text(bytes)); location.ok()) {
    if (!parse_location(location->str()).ok()) std::abort();
  }
  if (const auto decoded = base64_decode(as_text(bytes))) {
    static_cast<void>(base64_decode(base64_encode(*decoded)));
  }
  static_cast<void>(parse_credential_plugins(as_text(bytes)).ok());
  static_cast<void>(parse_plugin_answer(bytes).ok());
  static_cast<void>(parse_helper_answer(bytes).ok());
  if (const auto duration = parse_go_duration(as_text(bytes)); duration && duration->count() < 0) {
    std::abort();
  }
  const size_t half = size / 2;
  static_cast<void>(image_matches(as_text(bytes.first(half)), as_text(bytes.subspan(half))));
  return 0;
}
