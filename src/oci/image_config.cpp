#include "oci/image_config.h"

#include "oci/json.h"
#include "oci/manifest.h"

namespace pagein::oci {

namespace {

constexpr JsonLimits kConfigLimits{.max_bytes = kMaxConfigSize};

Status read_process(const Json& config, ImageConfig* out) {
  ASSIGN_OR_RETURN(out->entrypoint, json_strings(config, "Entrypoint"));
  ASSIGN_OR_RETURN(out->cmd, json_strings(config, "Cmd"));
  ASSIGN_OR_RETURN(out->env, json_strings(config, "Env"));
  ASSIGN_OR_RETURN(out->volumes, json_names(config, "Volumes"));
  ASSIGN_OR_RETURN(out->exposed_ports, json_names(config, "ExposedPorts"));
  ASSIGN_OR_RETURN(out->labels, json_string_map(config, "Labels"));
  ASSIGN_OR_RETURN(out->working_dir, json_string(config, "WorkingDir"));
  ASSIGN_OR_RETURN(out->user, json_string(config, "User"));
  ASSIGN_OR_RETURN(out->stop_signal, json_string(config, "StopSignal"));
  return {};
}

Status read_rootfs(const Json& document, ImageConfig* out) {
  const Json* rootfs = json_find(document, "rootfs");
  if (rootfs == nullptr || !rootfs->is_object()) {
    return Error(Code::corrupt_input, "has no rootfs object");
  }
  ASSIGN_OR_RETURN(const std::string type, json_string(*rootfs, "type"));
  if (!type.empty() && type != "layers") {
    return Error(Code::unsupported, "its rootfs is not made of layers");
  }
  ASSIGN_OR_RETURN(const std::vector<std::string> diff_ids, json_strings(*rootfs, "diff_ids"));
  if (diff_ids.size() > kMaxLayers) {
    return Error(Code::corrupt_input, "has more than " + std::to_string(kMaxLayers) + " diffIDs");
  }
  for (const std::string& text : diff_ids) {
    ASSIGN_OR_RETURN(const Digest diff_id, Digest::parse(text));
    out->diff_ids.push_back(diff_id);
  }
  return {};
}

Result<ImageConfig> config_of(const Json& document) {
  ImageConfig out;
  if (!document.is_object()) return Error(Code::corrupt_input, "not a JSON object");
  ASSIGN_OR_RETURN(out.platform.os, json_string(document, "os"));
  ASSIGN_OR_RETURN(out.platform.architecture, json_string(document, "architecture"));
  ASSIGN_OR_RETURN(out.platform.variant, json_string(document, "variant"));
  ASSIGN_OR_RETURN(out.platform.os_version, json_string(document, "os.version"));
  ASSIGN_OR_RETURN(out.created, json_string(document, "created"));
  RETURN_IF_ERROR(read_rootfs(document, &out));
  if (const Json* config = json_find(document, "config")) {
    RETURN_IF_ERROR(read_process(*config, &out));
  }
  return out;
}

}  // namespace

Result<ImageConfig> parse_image_config(ByteView json) {
  ASSIGN_OR_RETURN(const Json document, parse_json(json, "image config", kConfigLimits));
  Result<ImageConfig> out = config_of(document);
  if (!out.ok()) return out.error().with_context("image config");
  return out;
}

std::vector<Digest> chain_ids(std::span<const Digest> diff_ids) {
  std::vector<Digest> out;
  out.reserve(diff_ids.size());
  for (const Digest& diff_id : diff_ids) {
    out.push_back(out.empty() ? diff_id
                              : Digest::of(as_bytes(out.back().str() + " " + diff_id.str())));
  }
  return out;
}

}  // namespace pagein::oci
