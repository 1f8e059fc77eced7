#include "node/image.h"

#include "oci/media_types.h"
#include "registry/read_range.h"

namespace pagein::node {
namespace {

// The platform's manifest, checked to be what the reference leads to.
Result<oci::Descriptor> select_manifest(registry::ImageSource& source, const std::string& reference,
                                        const oci::Digest& wanted) {
  ASSIGN_OR_RETURN(const oci::Descriptor root, source.resolve());
  if (!wanted.empty() && root.digest == wanted) return root;
  auto elsewhere = [&] {
    return Error(Code::failed_precondition,
                 reference + " names " + root.digest.str() + ", which does not lead to manifest " +
                     wanted.str() + "; the tag may have moved: pull again");
  };
  if (!oci::is_index(root.media_type)) {
    if (wanted.empty()) return root;
    return elsewhere();
  }
  ASSIGN_OR_RETURN(const std::string bytes, source.read_manifest(root));
  ASSIGN_OR_RETURN(const oci::ImageIndex index, oci::parse_index(as_bytes(bytes), root.media_type));
  if (wanted.empty()) {
    const oci::Descriptor* chosen = oci::select_platform(index, oci::Platform::host());
    if (chosen != nullptr) return *chosen;
    return Error(Code::not_found, reference + " has no image for " + oci::Platform::host().str());
  }
  for (const oci::Descriptor& entry : index.manifests) {
    if (entry.digest == wanted) return entry;
  }
  return elsewhere();
}

}  // namespace

Result<std::shared_ptr<const Image>> load_image(registry::ImageSource& source,
                                                const std::string& reference,
                                                const oci::Digest& manifest_digest) {
  ASSIGN_OR_RETURN(const oci::Descriptor descriptor,
                   select_manifest(source, reference, manifest_digest));
  auto image = std::make_shared<Image>();
  image->reference = reference;
  image->manifest_digest = descriptor.digest;
  ASSIGN_OR_RETURN(image->manifest_bytes, source.read_manifest(descriptor));
  ASSIGN_OR_RETURN(const oci::Manifest manifest,
                   oci::parse_manifest(as_bytes(image->manifest_bytes), descriptor.media_type));
  ASSIGN_OR_RETURN(const std::string config,
                   source.read_blob(manifest.config, oci::kMaxConfigSize));
  ASSIGN_OR_RETURN(image->config, oci::parse_image_config(as_bytes(config)));
  if (image->config.diff_ids.size() != manifest.layers.size()) {
    return Error(Code::corrupt_input,
                 reference + ": the config names " + std::to_string(image->config.diff_ids.size()) +
                     " layers, the manifest " + std::to_string(manifest.layers.size()));
  }
  image->startup_pack = startup::parse_pack_location(manifest.annotations);
  const std::vector<oci::Digest> chains = oci::chain_ids(image->config.diff_ids);
  for (size_t i = 0; i < manifest.layers.size(); ++i) {
    ImageLayer layer;
    layer.descriptor = manifest.layers[i];
    layer.diff_id = image->config.diff_ids[i];
    layer.chain_id = chains[i];
    layer.index = index::parse_index_location(layer.descriptor);
    image->layers.push_back(std::move(layer));
  }
  return std::shared_ptr<const Image>(std::move(image));
}

std::vector<Result<Bytes>> load_index_heads(registry::BlobSource& source,
                                            const std::vector<index::IndexLocation>& wanted,
                                            net::Clock::time_point deadline) {
  std::vector<registry::PendingRead> reads;
  for (const index::IndexLocation& index : wanted) {
    registry::BlobRead read;
    read.digest = index.digest;
    read.blob_size = index.size;
    read.length = index.head_size;
    read.deadline = deadline;
    reads.emplace_back(source, read);
  }
  std::vector<Result<Bytes>> heads;
  for (size_t i = 0; i < wanted.size(); ++i) {
    Result<Bytes> head = reads[i].wait();
    if (head.ok() && oci::Digest::of(*head) != wanted[i].head_digest) {
      head = Error(Code::corrupt_input, "the head of index " + wanted[i].digest.str() + " from " +
                                            source.describe() +
                                            " does not have the digest that the manifest gives");
    }
    heads.push_back(std::move(head));
  }
  return heads;
}

}  // namespace pagein::node
