#include "containerd/plan.h"

#include <algorithm>

#include "oci/image_config.h"
#include "oci/manifest.h"
#include "oci/media_types.h"

namespace pagein::containerd {

namespace {

constexpr int kMaxIndexDepth = 4;

// The media type of documents whose descriptor does not say (a bare digest).
Result<std::string> type_of(const oci::Descriptor& descriptor, const std::string& bytes) {
  if (!descriptor.media_type.empty()) return descriptor.media_type;
  return oci::detect_manifest_type(as_bytes(bytes));
}

Result<Document> fetch_manifest(const oci::Descriptor& descriptor, registry::ImageSource& source) {
  Document document{descriptor, {}, {}};
  ASSIGN_OR_RETURN(document.bytes, source.read_manifest(descriptor));
  ASSIGN_OR_RETURN(document.descriptor.media_type, type_of(descriptor, document.bytes));
  document.descriptor.size = document.bytes.size();
  return document;
}

Status read_config(PullPlan& plan, const oci::Descriptor& descriptor,
                   registry::ImageSource& source) {
  Document config{descriptor, {}, {}};
  ASSIGN_OR_RETURN(config.bytes, source.read_blob(descriptor, oci::kMaxConfigSize));
  ASSIGN_OR_RETURN(const oci::ImageConfig parsed, oci::parse_image_config(as_bytes(config.bytes)));
  if (parsed.diff_ids.size() != plan.layers.size()) {
    return Error(Code::corrupt_input,
                 "image " + plan.name + ": its manifest has " + std::to_string(plan.layers.size()) +
                     " layers, its config " + std::to_string(parsed.diff_ids.size()) + " diffIDs");
  }
  plan.diff_ids = parsed.diff_ids;
  plan.chain_ids = oci::chain_ids(plan.diff_ids);
  plan.config_digest = descriptor.digest;
  plan.documents.push_back(std::move(config));
  return {};
}

Status read_image(PullPlan& plan, Document document, registry::ImageSource& source) {
  ASSIGN_OR_RETURN(const oci::Manifest manifest,
                   oci::parse_manifest(as_bytes(document.bytes), document.descriptor.media_type));
  for (const oci::Descriptor& layer : manifest.layers) {
    if (!oci::parse_layer_type(layer.media_type).known) {
      return Error(Code::unsupported, "image " + plan.name + ": a layer has media type \"" +
                                          layer.media_type + "\", which is not a file tree");
    }
  }
  plan.layers = manifest.layers;
  plan.manifest_digest = document.descriptor.digest;
  document.children.push_back(manifest.config);
  document.children.insert(document.children.end(), manifest.layers.begin(), manifest.layers.end());
  plan.documents.push_back(std::move(document));
  return read_config(plan, manifest.config, source);
}

}  // namespace

Result<PullPlan> plan_pull(const PlanRequest& request, registry::ImageSource& source) {
  PullPlan plan;
  plan.name = request.name;
  plan.source_host = request.source_host;
  plan.source_repository = request.source_repository;
  ASSIGN_OR_RETURN(Document document, fetch_manifest(request.target, source));
  plan.target = document.descriptor;
  for (int depth = 0; oci::is_index(document.descriptor.media_type); ++depth) {
    if (depth == kMaxIndexDepth) {
      return Error(Code::unsupported, "image " + request.name + ": too many nested indexes");
    }
    ASSIGN_OR_RETURN(const oci::ImageIndex index,
                     oci::parse_index(as_bytes(document.bytes), document.descriptor.media_type));
    const oci::Descriptor* chosen = oci::select_platform(index, request.platform);
    if (chosen == nullptr) {
      return Error(Code::not_found,
                   "image " + request.name + " has nothing for " + request.platform.str());
    }
    document.children = index.manifests;
    plan.documents.push_back(std::move(document));
    ASSIGN_OR_RETURN(document, fetch_manifest(*chosen, source));
  }
  RETURN_IF_ERROR(read_image(plan, std::move(document), source));
  std::reverse(plan.documents.begin(), plan.documents.end());
  return plan;
}

}  // namespace pagein::containerd
