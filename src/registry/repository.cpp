#include "registry/repository.h"

#include <algorithm>

#include "oci/json.h"
#include "oci/media_types.h"
#include "registry/call.h"
#include "registry/http_errors.h"
#include "registry/registry_blob_source.h"

namespace pagein::registry {

namespace {

constexpr size_t kMaxTags = 1'000'000;
constexpr int kMaxPages = 10'000;
constexpr uint64_t kMaxErrorBody = 64 << 10;
constexpr std::string_view kPull = "pull";
constexpr std::string_view kPush = "pull,push";
constexpr std::string_view kDelete = "pull,push,delete";

// Without it docker-registry answers 404 for what it holds.
std::string accept_list() {
  using namespace oci::media_type;
  std::string out;
  for (const std::string_view type :
       {kOciIndex, kOciManifest, kDockerManifestList, kDockerManifest}) {
    out += std::string(type) + ", ";
  }
  return out + "*/*";
}

CallSpec manifest_spec() {
  CallSpec spec;
  spec.headers.add("Accept", accept_list());
  spec.body_cap = oci::kMaxManifestSize;
  return spec;
}

// What names a manifest in a URL must not be able to change the URL.
Status check_name(const std::string& tag_or_digest) {
  if (oci::is_valid_tag(tag_or_digest) || oci::Digest::parse(tag_or_digest).ok()) return {};
  return Error(Code::invalid_argument,
               "\"" + tag_or_digest.substr(0, 200) + "\" is neither a tag nor a sha256 digest");
}

// 404: what there is none of, by the name that a person knows it by.
Error no_manifest(const oci::Reference& name, const std::string& tag_or_digest,
                  const std::string& doing) {
  const bool is_tag = oci::is_valid_tag(tag_or_digest);
  return Error(Code::not_found,
               name.name() + (is_tag ? ":" : "@") + tag_or_digest +
                   ": the registry has no such image or " + (is_tag ? "tag" : "digest") +
                   ", or shows it only to who is logged in (" + doing + " answered 404)");
}

std::optional<oci::Digest> digest_header(const net::Headers& headers) {
  const std::string* value = headers.find("Docker-Content-Digest");
  if (value == nullptr) return std::nullopt;
  const Result<oci::Digest> digest = oci::Digest::parse(*value);
  return digest.ok() ? std::optional(*digest) : std::nullopt;
}

}  // namespace

Repository::Repository(std::shared_ptr<Session> session, const oci::Reference& name)
    : session_(std::move(session)), name_(*oci::Reference::make(name.host(), name.repository())) {}

namespace {

// A HEAD's answer as a descriptor; nullopt where it does not say enough.
std::optional<oci::Descriptor> describe_head(const net::Response& response,
                                             const std::string& tag_or_digest) {
  const std::optional<oci::Digest> digest = digest_header(response.head.headers);
  const std::optional<uint64_t> size = response.head.content_length();
  const std::string type = media_type_of(response.head.headers);
  const Result<oci::Digest> asked = oci::Digest::parse(tag_or_digest);
  const bool usable = response.head.status == 200 && digest && size && *size > 0 &&
                      (oci::is_manifest(type) || oci::is_index(type)) &&
                      (!asked.ok() || *asked == *digest);
  if (!usable) return std::nullopt;
  oci::Descriptor out;
  out.media_type = type;
  out.digest = *digest;
  out.size = *size;
  return out;
}

// The bytes of a manifest must be what was asked for, and what the host says they are.
Status check_manifest(const net::Response& response, const std::string& tag_or_digest) {
  const oci::Digest found = oci::Digest::of(as_bytes(response.body));
  const Result<oci::Digest> asked = oci::Digest::parse(tag_or_digest);
  const std::optional<oci::Digest> said = digest_header(response.head.headers);
  if ((!asked.ok() || *asked == found) && (!said || *said == found)) return {};
  return Error(Code::corrupt_input, "GET " + loggable_url(response.head.url) +
                                        ": the manifest's digest is " + found.str() + ", not " +
                                        (asked.ok() ? asked->str() : said->str()));
}

Capability capability_for(const std::string& tag_or_digest) {
  return oci::Digest::parse(tag_or_digest).ok() ? Capability::pull : Capability::resolve;
}

Status anything(const net::Response&) { return {}; }

}  // namespace

Result<oci::Descriptor> Repository::resolve(const std::string& tag_or_digest) const {
  RETURN_IF_ERROR(check_name(tag_or_digest));
  const Caller caller(session_, name_, kPull);
  CallSpec spec = manifest_spec();
  spec.method = net::Method::head;
  ASSIGN_OR_RETURN(
      const Caller::Answer answer,
      caller.fetch(capability_for(tag_or_digest), "manifests/" + tag_or_digest, spec, anything));
  if (const auto found = describe_head(answer.response, tag_or_digest)) return *found;
  // Some answer HEAD badly; and only GET's body says what is wrong.
  ASSIGN_OR_RETURN(const ManifestBytes manifest, get_manifest(tag_or_digest));
  return manifest.descriptor;
}

Result<ManifestBytes> Repository::get_manifest(const std::string& tag_or_digest,
                                               Capability where) const {
  RETURN_IF_ERROR(check_name(tag_or_digest));
  const Caller caller(session_, name_, kPull);
  ASSIGN_OR_RETURN(
      Caller::Answer answer,
      caller.fetch(where == Capability::push ? where : capability_for(tag_or_digest),
                   "manifests/" + tag_or_digest, manifest_spec(),
                   [&](const net::Response& r) { return check_manifest(r, tag_or_digest); }));
  net::Response& response = answer.response;
  const std::string doing = "GET " + loggable_url(answer.url);
  if (response.head.status == 404) {
    Error why = no_manifest(name_, tag_or_digest, doing);
    if (!answer.skipped.empty()) why.message += "; before that, " + answer.skipped;
    return why;
  }
  if (response.head.status != 200) {
    return error_of_response(doing, response.head.status, response.body);
  }
  ManifestBytes out;
  out.bytes = std::move(response.body);
  out.descriptor.digest = oci::Digest::of(as_bytes(out.bytes));
  out.descriptor.size = out.bytes.size();
  out.descriptor.media_type = media_type_of(response.head.headers);
  if (!oci::is_manifest(out.descriptor.media_type) && !oci::is_index(out.descriptor.media_type)) {
    Result<std::string> type = oci::detect_manifest_type(as_bytes(out.bytes));
    if (!type.ok()) return type.error().with_context(doing);
    out.descriptor.media_type = *std::move(type);
  }
  return out;
}

Result<std::optional<uint64_t>> Repository::blob_size(const oci::Digest& digest) const {
  const Caller caller(session_, name_, kPull);
  CallSpec spec;
  spec.method = net::Method::head;
  ASSIGN_OR_RETURN(const Caller::Answer answer,
                   caller.fetch(Capability::push, "blobs/" + digest.str(), spec, anything));
  const std::string doing = "HEAD " + loggable_url(answer.url);
  if (answer.response.head.status == 404) return std::optional<uint64_t>();
  if (answer.response.head.status != 200) {
    return error_of_response(doing, answer.response.head.status, {});
  }
  const std::optional<uint64_t> size = answer.response.head.content_length();
  if (!size) return Error(Code::corrupt_input, doing + ": the answer has no Content-Length");
  return size;
}

Result<bool> Repository::blob_exists(const oci::Digest& digest) const {
  ASSIGN_OR_RETURN(const std::optional<uint64_t> size, blob_size(digest));
  return size.has_value();
}

Result<std::string> Repository::read_blob(const oci::Descriptor& descriptor, uint64_t cap) const {
  if (descriptor.size > cap) {
    return Error(Code::exhausted, "blob " + descriptor.digest.str() + " has " +
                                      std::to_string(descriptor.size) + " bytes, more than the " +
                                      std::to_string(cap) + " allowed here");
  }
  const Caller caller(session_, name_, kPull);
  CallSpec spec;
  spec.body_cap = std::max<uint64_t>(descriptor.size, kMaxErrorBody);  // a refusal may be longer
  const auto check = [&](const net::Response& response) -> Status {
    const oci::Digest found = oci::Digest::of(as_bytes(response.body));
    if (found == descriptor.digest && response.body.size() == descriptor.size) return {};
    return Error(Code::corrupt_input,
                 "GET " + loggable_url(response.head.url) + ": the server sent " +
                     std::to_string(response.body.size()) + " bytes with digest " + found.str());
  };
  ASSIGN_OR_RETURN(Caller::Answer answer,
                   caller.fetch(Capability::pull, "blobs/" + descriptor.digest.str(), spec, check));
  if (answer.response.head.status != 200) {
    return error_of_response("GET " + loggable_url(answer.url), answer.response.head.status,
                             answer.response.body);
  }
  return std::move(answer.response.body);
}

std::shared_ptr<BlobSource> Repository::blobs() const {
  return std::make_shared<RegistryBlobSource>(session_, name_);
}

Result<Repository::Pushed> Repository::put_manifest(std::string_view bytes,
                                                    std::string_view media_type,
                                                    const std::string& tag) const {
  Pushed out;
  out.descriptor.media_type = std::string(media_type);
  out.descriptor.digest = oci::Digest::of(as_bytes(bytes));
  out.descriptor.size = bytes.size();
  const std::string name = tag.empty() ? out.descriptor.digest.str() : tag;
  RETURN_IF_ERROR(check_name(name));
  const Caller caller(session_, name_, kPush);
  CallSpec spec;
  spec.method = net::Method::put;
  spec.url = caller.endpoint().url(name_.repository(), "manifests/" + name);
  spec.headers.add("Content-Type", std::string(media_type));
  spec.body = bytes;
  ASSIGN_OR_RETURN(const net::Response response, caller.run(spec));
  if (response.head.status != 201) {
    return error_of_response(Caller::doing(spec), response.head.status, response.body);
  }
  if (const auto said = digest_header(response.head.headers);
      said && *said != out.descriptor.digest) {
    return Error(Code::corrupt_input, Caller::doing(spec) + ": the registry stored " + said->str() +
                                          " instead of " + out.descriptor.digest.str());
  }
  out.subject_listed = response.head.headers.find("OCI-Subject") != nullptr;
  return out;
}

Result<oci::Descriptor> Repository::push_manifest(std::string_view bytes,
                                                  std::string_view media_type,
                                                  const std::string& tag) const {
  ASSIGN_OR_RETURN(const Pushed pushed, put_manifest(bytes, media_type, tag));
  return pushed.descriptor;
}

Status Repository::delete_manifest(const std::string& tag_or_digest) const {
  RETURN_IF_ERROR(check_name(tag_or_digest));
  const Caller caller(session_, name_, kDelete);
  CallSpec spec;
  spec.method = net::Method::del;
  spec.url = caller.endpoint().url(name_.repository(), "manifests/" + tag_or_digest);
  ASSIGN_OR_RETURN(const net::Response response, caller.run(spec));
  const int status = response.head.status;
  if (status == 202 || status == 200 || status == 204) return {};
  return error_of_response(Caller::doing(spec), status, response.body);
}

Result<std::vector<std::string>> Repository::tags() const {
  const Caller caller(session_, name_, kPull);
  CallSpec spec;
  spec.url = caller.endpoint().url(name_.repository(), "tags/list?n=1000");
  std::vector<std::string> out;
  for (int page = 0; page < kMaxPages; ++page) {
    ASSIGN_OR_RETURN(const net::Response response, caller.run(spec));
    if (response.head.status != 200) {
      return error_of_response(Caller::doing(spec), response.head.status, response.body);
    }
    ASSIGN_OR_RETURN(const oci::Json document,
                     oci::parse_json(as_bytes(response.body), "list of tags"));
    ASSIGN_OR_RETURN(const std::vector<std::string> tags, oci::json_strings(document, "tags"));
    for (const std::string& tag : tags) {
      if (oci::is_valid_tag(tag)) out.push_back(tag);
    }
    const std::string next = next_link(response.head.headers);
    if (next.empty()) return out;
    if (out.size() > kMaxTags) break;
    ASSIGN_OR_RETURN(spec.url, follow_location(caller.endpoint(), spec.url, next));
  }
  return Error(Code::exhausted, Caller::doing(spec) + ": the list of tags does not end");
}

}  // namespace pagein::registry
