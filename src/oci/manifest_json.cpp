#include "oci/manifest_json.h"

namespace pagein::oci {

namespace {

Result<Platform> parse_platform(const Json& value) {
  if (!value.is_object()) {
    return Error(Code::corrupt_input, "\"platform\" is not an object");
  }
  Platform out;
  ASSIGN_OR_RETURN(out.os, json_string(value, "os"));
  ASSIGN_OR_RETURN(out.architecture, json_string(value, "architecture"));
  ASSIGN_OR_RETURN(out.variant, json_string(value, "variant"));
  ASSIGN_OR_RETURN(out.os_version, json_string(value, "os.version"));
  ASSIGN_OR_RETURN(out.os_features, json_strings(value, "os.features"));
  return out;
}

OrderedJson platform_json(const Platform& platform) {
  OrderedJson out;
  out["architecture"] = platform.architecture;
  out["os"] = platform.os;
  if (!platform.os_version.empty()) out["os.version"] = platform.os_version;
  if (!platform.os_features.empty()) out["os.features"] = platform.os_features;
  if (!platform.variant.empty()) out["variant"] = platform.variant;
  return out;
}

Result<Descriptor> parse_descriptor_fields(const Json& value) {
  Descriptor out;
  if (!value.is_object()) return Error(Code::corrupt_input, "not an object");
  ASSIGN_OR_RETURN(out.media_type, json_string(value, "mediaType"));
  ASSIGN_OR_RETURN(const std::string digest, json_string(value, "digest"));
  ASSIGN_OR_RETURN(out.digest, Digest::parse(digest));
  ASSIGN_OR_RETURN(const std::optional<uint64_t> size, json_unsigned(value, "size"));
  if (!size) return Error(Code::corrupt_input, "has no size");
  if (*size > kMaxBlobSize) {
    return Error(Code::corrupt_input, "claims a size of " + std::to_string(*size) + " bytes");
  }
  out.size = *size;
  ASSIGN_OR_RETURN(out.artifact_type, json_string(value, "artifactType"));
  ASSIGN_OR_RETURN(out.annotations, parse_annotations(value));
  ASSIGN_OR_RETURN(out.urls, json_strings(value, "urls"));
  if (const Json* platform = json_find(value, "platform")) {
    ASSIGN_OR_RETURN(out.platform, parse_platform(*platform));
  }
  return out;
}

}  // namespace

Result<Descriptor> parse_descriptor(const Json& value, std::string_view what) {
  Result<Descriptor> out = parse_descriptor_fields(value);
  if (!out.ok()) return out.error().with_context(what);
  return out;
}

Result<std::vector<Descriptor>> parse_descriptors(const Json& object, const char* key, size_t max) {
  std::vector<Descriptor> out;
  const Json* list = json_find(object, key);
  if (list == nullptr) return out;
  if (!list->is_array()) {
    return Error(Code::corrupt_input, "\"" + std::string(key) + "\" is not an array");
  }
  if (list->size() > max) {
    return Error(Code::corrupt_input, "\"" + std::string(key) + "\" has " +
                                          std::to_string(list->size()) + " entries, more than " +
                                          std::to_string(max));
  }
  out.reserve(list->size());
  for (const Json& element : *list) {
    ASSIGN_OR_RETURN(
        Descriptor descriptor,
        parse_descriptor(element, std::string(key) + "[" + std::to_string(out.size()) + "]"));
    out.push_back(std::move(descriptor));
  }
  return out;
}

Result<Annotations> parse_annotations(const Json& object) {
  ASSIGN_OR_RETURN(Annotations out, json_string_map(object, "annotations"));
  if (out.size() > kMaxAnnotations) {
    return Error(Code::corrupt_input,
                 "has more than " + std::to_string(kMaxAnnotations) + " annotations");
  }
  for (const auto& [name, value] : out) {
    if (name.size() + value.size() > kMaxAnnotationSize) {
      return Error(Code::corrupt_input, "has an annotation of more than " +
                                            std::to_string(kMaxAnnotationSize) + " bytes");
    }
  }
  return out;
}

OrderedJson descriptor_json(const Descriptor& descriptor) {
  OrderedJson out;
  out["mediaType"] = descriptor.media_type;
  out["digest"] = descriptor.digest.str();
  out["size"] = descriptor.size;
  if (!descriptor.urls.empty()) out["urls"] = descriptor.urls;
  if (!descriptor.annotations.empty()) out["annotations"] = descriptor.annotations;
  if (descriptor.platform) out["platform"] = platform_json(*descriptor.platform);
  if (!descriptor.artifact_type.empty()) out["artifactType"] = descriptor.artifact_type;
  return out;
}

std::string dump(const OrderedJson& document) {
  return document.dump(-1, ' ', /*ensure_ascii=*/false, OrderedJson::error_handler_t::replace);
}

}  // namespace pagein::oci
