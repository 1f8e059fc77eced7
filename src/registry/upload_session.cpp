#include <algorithm>

#include "registry/content_range.h"
#include "registry/http_errors.h"
#include "registry/upload.h"

namespace pagein::registry {

namespace {
constexpr int kMaxResumes = 5;                     // of one chunk
constexpr std::chrono::seconds kCommitStall{300};  // registries hash, some move the blob
}  // namespace

UploadSession::UploadSession(std::shared_ptr<Session> session, const oci::Reference& name)
    : session_(session), name_(name), caller_(std::move(session), name, "pull,push") {}

Status UploadSession::adopt_location(const net::Response& response, const std::string& asked) {
  const std::string* location = response.head.headers.find("Location");
  if (location == nullptr) return {};
  ASSIGN_OR_RETURN(location_, follow_location(caller_.endpoint(), asked, *location));
  return {};
}

Status UploadSession::open() {
  CallSpec spec;
  spec.method = net::Method::post;
  spec.url = caller_.endpoint().url(name_.repository(), "blobs/uploads/");
  ASSIGN_OR_RETURN(const net::Response response, caller_.run(spec));
  if (response.head.status != 202) {
    return error_of_response(Caller::doing(spec), response.head.status, response.body);
  }
  RETURN_IF_ERROR(adopt_location(response, spec.url));
  if (location_.empty()) {
    return Error(Code::corrupt_input, Caller::doing(spec) + ": the answer has no Location");
  }
  return {};
}

std::string UploadSession::commit_url(const oci::Digest& digest) const {
  return location_ + (location_.find('?') == std::string::npos ? "?" : "&") +
         "digest=" + digest.str();
}

Result<uint64_t> UploadSession::remote_offset() {
  CallSpec spec;
  spec.method = net::Method::get;
  spec.url = location_;
  ASSIGN_OR_RETURN(const net::Response response, caller_.run(spec));
  if (response.head.status != 204 && response.head.status != 202) {
    return error_of_response(Caller::doing(spec), response.head.status, response.body);
  }
  RETURN_IF_ERROR(adopt_location(response, spec.url));
  const std::string* range = response.head.headers.find("Range");
  if (range == nullptr) return uint64_t{0};
  const std::optional<uint64_t> there = parse_upload_range(*range);
  if (!there) {
    return Error(Code::corrupt_input,
                 Caller::doing(spec) + ": Range is \"" + range->substr(0, 100) + "\"");
  }
  // "0-0" is what docker-registry says of an empty upload, and nobody uploads
  // chunks of one byte.
  return *there == 1 ? 0 : *there;
}

Status UploadSession::patch(ByteView chunk, uint64_t offset) {
  std::optional<Error> last;
  const uint64_t end = offset + chunk.size();
  uint64_t at = offset;
  for (int attempt = 0; attempt <= kMaxResumes && at < end; ++attempt) {
    if (last) {
      const Result<uint64_t> offset_there = remote_offset();
      if (!offset_there.ok()) {
        return Error(Code::unavailable, last->message + "; the registry has lost the upload: " +
                                            offset_there.error().message);
      }
      const uint64_t there = *offset_there;
      if (there < offset || there > end) {
        return Error(Code::unavailable,
                     last->message + "; the registry has " + std::to_string(there) +
                         " bytes, so the upload cannot go on at " + std::to_string(at));
      }
      at = there;
      if (at == end) return {};
    }
    CallSpec spec;
    spec.method = net::Method::patch;
    spec.url = location_;
    spec.body = as_text(chunk.subspan(static_cast<size_t>(at - offset)));
    spec.headers.add("Content-Type", "application/octet-stream");
    spec.headers.add("Content-Range", std::to_string(at) + "-" + std::to_string(end - 1));
    spec.idempotence = Idempotence::once;
    spec.priority = net::Priority::background;
    Result<net::Response> response = caller_.run(spec);
    if (!response.ok()) {
      if (!is_retryable(response.error())) return response.error();
      last = response.error();
      continue;
    }
    if (response->head.status == 202 || response->head.status == 201 ||
        response->head.status == 204) {
      RETURN_IF_ERROR(adopt_location(*response, spec.url));
      return {};
    }
    last = error_of_response(Caller::doing(spec), response->head.status, response->body);
    if (response->head.status != 416) return *last;
  }
  return last ? Status(*last) : Status();
}

Result<bool> UploadSession::blob_is_there(const oci::Digest& digest) const {
  return Repository(session_, name_).blob_exists(digest);
}

Status UploadSession::put(ByteView rest, uint64_t offset, const oci::Digest& digest) {
  // All in one PUT can be repeated from the start; with chunks before it, the
  // rest goes up as one more.
  if (offset > 0 && !rest.empty()) {
    RETURN_IF_ERROR(patch(rest, offset));
    rest = {};
  }
  CallSpec spec;
  spec.method = net::Method::put;
  spec.url = commit_url(digest);
  spec.body = as_text(rest);
  spec.headers.add("Content-Type", "application/octet-stream");
  spec.idempotence = Idempotence::once;
  spec.priority = net::Priority::background;
  spec.stall_timeout = kCommitStall;
  Result<net::Response> response = caller_.run(spec);
  if (response.ok() && response->head.status == 201) return {};
  const Error why =
      response.ok() ? error_of_response(Caller::doing(spec), response->head.status, response->body)
                    : response.error();
  // The answer may have been lost, not the blob.
  if (is_retryable(why)) {
    if (const Result<bool> there = blob_is_there(digest); there.ok() && *there) return {};
  }
  return why;
}

void UploadSession::abandon() {
  if (location_.empty()) return;
  CallSpec spec;
  spec.method = net::Method::del;
  spec.url = location_;
  spec.idempotence = Idempotence::once;
  static_cast<void>(caller_.run(spec).ok());
  location_.clear();
}

}  // namespace pagein::registry
