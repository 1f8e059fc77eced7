#include "oci/manifest.h"

#include "oci/annotations.h"
#include "oci/manifest_json.h"
#include "oci/media_types.h"

namespace pagein::oci {

namespace {

constexpr JsonLimits kManifestLimits{.max_bytes = kMaxManifestSize};

// The media type of a document: what it says, what the transport says (they
// must agree), else what its fields imply. Also refuses mixtures.
Result<std::string> document_type(const Json& document, std::string_view transport) {
  if (!document.is_object()) return Error(Code::corrupt_input, "not a JSON object");
  if (json_find(document, "fsLayers") != nullptr) {
    return Error(Code::unsupported,
                 "is of Docker's schema 1; push the image again with a current client");
  }
  const bool has_manifests = document.contains("manifests");
  const bool has_layers = document.contains("layers") || document.contains("config");
  if (has_manifests && has_layers) {
    return Error(Code::corrupt_input, "is both an index and an image manifest");
  }
  ASSIGN_OR_RETURN(const std::optional<uint64_t> version, json_unsigned(document, "schemaVersion"));
  if (version != 2) return Error(Code::unsupported, "its schemaVersion is not 2");
  ASSIGN_OR_RETURN(std::string type, json_string(document, "mediaType"));
  if (!type.empty() && !transport.empty() && type != transport) {
    return Error(Code::corrupt_input,
                 "calls itself " + type + " but was delivered as " + std::string(transport));
  }
  if (type.empty()) type = std::string(transport);
  if (type.empty()) type = has_manifests ? media_type::kOciIndex : media_type::kOciManifest;
  if (is_index(type) && has_layers) {
    return Error(Code::corrupt_input, "is called an index but holds an image manifest");
  }
  if (is_manifest(type) && has_manifests) {
    return Error(Code::corrupt_input, "is called an image manifest but holds an index");
  }
  return type;
}

Result<Manifest> manifest_of(const Json& document, std::string_view transport) {
  Manifest out;
  ASSIGN_OR_RETURN(out.media_type, document_type(document, transport));
  if (!is_manifest(out.media_type)) {
    return Error(Code::unsupported, "is not an image manifest but " + out.media_type);
  }
  const Json* config = json_find(document, "config");
  if (config == nullptr) return Error(Code::corrupt_input, "has no config");
  ASSIGN_OR_RETURN(out.config, parse_descriptor(*config, "config"));
  ASSIGN_OR_RETURN(out.layers, parse_descriptors(document, "layers", kMaxLayers));
  ASSIGN_OR_RETURN(out.artifact_type, json_string(document, "artifactType"));
  ASSIGN_OR_RETURN(out.annotations, parse_annotations(document));
  if (const Json* subject = json_find(document, "subject")) {
    ASSIGN_OR_RETURN(out.subject, parse_descriptor(*subject, "subject"));
  }
  return out;
}

Result<ImageIndex> index_of(const Json& document, std::string_view transport) {
  ImageIndex out;
  ASSIGN_OR_RETURN(out.media_type, document_type(document, transport));
  if (!is_index(out.media_type)) {
    return Error(Code::unsupported, "is not an image index but " + out.media_type);
  }
  ASSIGN_OR_RETURN(out.manifests, parse_descriptors(document, "manifests", kMaxIndexEntries));
  ASSIGN_OR_RETURN(out.artifact_type, json_string(document, "artifactType"));
  ASSIGN_OR_RETURN(out.annotations, parse_annotations(document));
  if (const Json* subject = json_find(document, "subject")) {
    ASSIGN_OR_RETURN(out.subject, parse_descriptor(*subject, "subject"));
  }
  return out;
}

OrderedJson document_head(std::string_view type, std::string_view artifact_type) {
  OrderedJson out;
  out["schemaVersion"] = 2;
  out["mediaType"] = std::string(type);
  if (!artifact_type.empty()) out["artifactType"] = std::string(artifact_type);
  return out;
}

OrderedJson descriptor_list(const std::vector<Descriptor>& descriptors) {
  OrderedJson out = OrderedJson::array();
  for (const Descriptor& descriptor : descriptors) out.push_back(descriptor_json(descriptor));
  return out;
}

}  // namespace

std::string_view Manifest::effective_artifact_type() const {
  return artifact_type.empty() ? std::string_view(config.media_type)
                               : std::string_view(artifact_type);
}

Result<Manifest> parse_manifest(ByteView json, std::string_view type) {
  ASSIGN_OR_RETURN(const Json document, parse_json(json, "manifest", kManifestLimits));
  Result<Manifest> out = manifest_of(document, type);
  if (!out.ok()) return out.error().with_context("manifest");
  return out;
}

Result<ImageIndex> parse_index(ByteView json, std::string_view type) {
  ASSIGN_OR_RETURN(const Json document, parse_json(json, "image index", kManifestLimits));
  Result<ImageIndex> out = index_of(document, type);
  if (!out.ok()) return out.error().with_context("image index");
  return out;
}

Result<std::string> detect_manifest_type(ByteView json) {
  ASSIGN_OR_RETURN(const Json document, parse_json(json, "manifest", kManifestLimits));
  Result<std::string> out = document_type(document, {});
  if (!out.ok()) return out.error().with_context("manifest");
  return out;
}

std::string serialize(const Manifest& manifest) {
  OrderedJson out = document_head(manifest.media_type, manifest.artifact_type);
  out["config"] = descriptor_json(manifest.config);
  out["layers"] = descriptor_list(manifest.layers);
  if (manifest.subject) out["subject"] = descriptor_json(*manifest.subject);
  if (!manifest.annotations.empty()) out["annotations"] = manifest.annotations;
  return dump(out);
}

std::string serialize(const ImageIndex& index) {
  OrderedJson out = document_head(index.media_type, index.artifact_type);
  out["manifests"] = descriptor_list(index.manifests);
  if (index.subject) out["subject"] = descriptor_json(*index.subject);
  if (!index.annotations.empty()) out["annotations"] = index.annotations;
  return dump(out);
}

const Descriptor* select_platform(const ImageIndex& index, const Platform& wanted) {
  const Descriptor* best = nullptr;
  const Descriptor* unlabelled = nullptr;
  int best_score = 0;
  for (const Descriptor& entry : index.manifests) {
    if (!is_manifest(entry.media_type)) continue;
    if (!entry.annotation(annotation::kDockerReferenceType).empty()) continue;
    if (!entry.platform) {
      if (unlabelled == nullptr && entry.artifact_type.empty()) unlabelled = &entry;
      continue;
    }
    if (entry.platform->is_unknown()) continue;
    const int score = match_platform(wanted, *entry.platform);
    if (score > best_score) {
      best = &entry;
      best_score = score;
    }
  }
  return best != nullptr ? best : unlabelled;
}

std::string_view Descriptor::annotation(std::string_view name) const {
  const auto it = annotations.find(std::string(name));
  return it == annotations.end() ? std::string_view() : std::string_view(it->second);
}

Descriptor empty_descriptor() {
  Descriptor out;
  out.media_type = media_type::kEmpty;
  out.digest = Digest::of(as_bytes(kEmptyBlob));
  out.size = kEmptyBlob.size();
  return out;
}

}  // namespace pagein::oci
