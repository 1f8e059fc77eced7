// What a pull will put into containerd: the documents of one platform's image.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "oci/descriptor.h"
#include "registry/image_store.h"

namespace pagein::containerd {

// An index, manifest or config: small, and stored whole.
struct Document {
  oci::Descriptor descriptor;
  std::string bytes;
  std::vector<oci::Descriptor> children;  // all that it refers to, in order
};

// Every digest in it has been verified against the target's.
struct PullPlan {
  std::string name;                 // the image's name in containerd
  oci::Descriptor target;           // what the name resolves to: index or manifest
  std::vector<Document> documents;  // config, manifest, index (if any): children first
  oci::Digest manifest_digest;
  oci::Digest config_digest;
  std::vector<oci::Descriptor> layers;  // lowest first, as the manifest has them
  std::vector<oci::Digest> diff_ids;    // as many
  std::vector<oci::Digest> chain_ids;   // as many
  // Of the registry, for containerd's distribution.source labels; may be empty.
  std::string source_host;
  std::string source_repository;
};

struct PlanRequest {
  std::string name;
  oci::Descriptor target;  // resolved by the caller
  oci::Platform platform;
  std::string source_host;
  std::string source_repository;
};

// Fetches and checks the documents; blocks. not_found: nothing for the
// platform; unsupported: schema 1, other media types, layers that are no tar;
// corrupt_input: a document is broken, or the numbers of layers and diffIDs
// differ. Indexes in indexes are followed to a depth of 4.
Result<PullPlan> plan_pull(const PlanRequest& request, registry::ImageSource& source);

}  // namespace pagein::containerd
