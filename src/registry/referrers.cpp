// Repository's part on referrers: the API where the registry has it, else the
// fallback tag (OCI distribution-spec v1.1 "Listing Referrers", "Referrers Tag
// Schema").
#include <algorithm>

#include "net/url.h"
#include "oci/manifest.h"
#include "oci/media_types.h"
#include "registry/call.h"
#include "registry/http_errors.h"
#include "registry/repository.h"

namespace pagein::registry {

namespace {

constexpr int kMaxPages = 100;
constexpr size_t kMaxReferrers = 10'000;
constexpr int kFallbackAttempts = 4;

void add_matching(const oci::ImageIndex& index, std::string_view artifact_type,
                  std::vector<oci::Descriptor>* out) {
  for (const oci::Descriptor& entry : index.manifests) {
    if (artifact_type.empty() || entry.artifact_type == artifact_type) out->push_back(entry);
  }
}

// The list in the fallback tag; an empty one if there is no such tag.
Result<oci::ImageIndex> fallback_list(const Repository& repository, const oci::Digest& subject,
                                      Capability where) {
  Result<ManifestBytes> list = repository.get_manifest(oci::referrers_tag(subject), where);
  if (!list.ok() && list.error().code == Code::not_found) return oci::ImageIndex();
  if (!list.ok()) return list.error();
  return oci::parse_index(as_bytes(list->bytes), list->descriptor.media_type);
}

// What a list says of a manifest that has a subject.
Result<oci::Descriptor> describe(std::string_view bytes, std::string_view media_type,
                                 oci::Digest* subject) {
  oci::Descriptor out;
  out.media_type = std::string(media_type);
  out.digest = oci::Digest::of(as_bytes(bytes));
  out.size = bytes.size();
  std::optional<oci::Descriptor> of;
  if (oci::is_index(media_type)) {
    ASSIGN_OR_RETURN(const oci::ImageIndex index, oci::parse_index(as_bytes(bytes), media_type));
    out.artifact_type = index.artifact_type;
    out.annotations = index.annotations;
    of = index.subject;
  } else {
    ASSIGN_OR_RETURN(const oci::Manifest manifest,
                     oci::parse_manifest(as_bytes(bytes), media_type));
    out.artifact_type = std::string(manifest.effective_artifact_type());
    out.annotations = manifest.annotations;
    of = manifest.subject;
  }
  if (!of) return Error(Code::invalid_argument, "a referrer needs a subject");
  *subject = of->digest;
  return out;
}

bool lists(const oci::ImageIndex& index, const oci::Digest& digest) {
  return std::any_of(index.manifests.begin(), index.manifests.end(),
                     [&](const oci::Descriptor& entry) { return entry.digest == digest; });
}

// The tag has no compare-and-swap: write, look, and write again if another
// writer's list has replaced ours.
Status add_to_fallback(const Repository& repository, const oci::Digest& subject,
                       const oci::Descriptor& referrer) {
  for (int attempt = 0; attempt < kFallbackAttempts; ++attempt) {
    ASSIGN_OR_RETURN(oci::ImageIndex list, fallback_list(repository, subject, Capability::push));
    if (lists(list, referrer.digest)) return {};
    list.media_type = oci::media_type::kOciIndex;
    list.manifests.push_back(referrer);
    const Result<oci::Descriptor> pushed = repository.push_manifest(
        oci::serialize(list), oci::media_type::kOciIndex, oci::referrers_tag(subject));
    if (!pushed.ok()) return pushed.error();
  }
  ASSIGN_OR_RETURN(const oci::ImageIndex list,
                   fallback_list(repository, subject, Capability::push));
  if (lists(list, referrer.digest)) return {};
  return Error(Code::unavailable, repository.name().name() + ":" + oci::referrers_tag(subject) +
                                      ": others keep overwriting the list of referrers");
}

}  // namespace

Result<std::vector<oci::Descriptor>> Repository::referrers(const oci::Digest& digest,
                                                           std::string_view artifact_type) const {
  const Caller caller(session_, name_, "pull");
  CallSpec spec;
  spec.url = caller.endpoint().url(name_.repository(), "referrers/" + digest.str());
  if (!artifact_type.empty()) {
    spec.url += "?artifactType=" + net::percent_encode(artifact_type);
  }
  spec.headers.add("Accept", std::string(oci::media_type::kOciIndex));
  std::vector<oci::Descriptor> out;
  for (int page = 0; page < kMaxPages && out.size() < kMaxReferrers; ++page) {
    ASSIGN_OR_RETURN(const net::Response response, caller.run(spec));
    const int status = response.head.status;
    const bool is_list = media_type_of(response.head.headers) == oci::media_type::kOciIndex;
    if (status == 200 && is_list) {
      ASSIGN_OR_RETURN(const oci::ImageIndex index,
                       oci::parse_index(as_bytes(response.body), oci::media_type::kOciIndex));
      add_matching(index, artifact_type, &out);
      const std::string next = next_link(response.head.headers);
      if (next.empty()) return out;
      ASSIGN_OR_RETURN(spec.url, follow_location(caller.endpoint(), spec.url, next));
      continue;
    }
    // No such API here; proxies say so in more ways than 404.
    const bool absent = status == 404 || status == 400 || status == 405 || status == 501 ||
                        (status == 200 && !is_list);
    if (!absent) return error_of_response(Caller::doing(spec), status, response.body);
    ASSIGN_OR_RETURN(const oci::ImageIndex list, fallback_list(*this, digest, Capability::resolve));
    add_matching(list, artifact_type, &out);
    return out;
  }
  return Error(Code::exhausted, Caller::doing(spec) + ": the list of referrers does not end");
}

Result<oci::Descriptor> Repository::push_referrer(std::string_view bytes,
                                                  std::string_view media_type) const {
  oci::Digest subject;
  ASSIGN_OR_RETURN(oci::Descriptor referrer, describe(bytes, media_type, &subject));
  ASSIGN_OR_RETURN(const Pushed pushed, put_manifest(bytes, media_type, {}));
  if (pushed.subject_listed) return referrer;
  RETURN_IF_ERROR(add_to_fallback(*this, subject, referrer));
  return referrer;
}

}  // namespace pagein::registry
