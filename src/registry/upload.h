// Blob uploads to a registry (OCI distribution-spec v1.1 "Pushing Blobs").
#pragma once

#include <memory>

#include "registry/call.h"
#include "registry/repository.h"

namespace pagein::registry {

// By chunks: what fits one goes up in a single PUT at commit; else each full
// chunk is PATCHed by a helper thread while the next one fills, and after a
// failure the upload goes on at the offset that the registry reports; where it
// reports none, from the start, if there is a spool (else unavailable).
Result<std::unique_ptr<BlobWriter>> make_chunked_upload(std::shared_ptr<Session> session,
                                                        const oci::Reference& name,
                                                        const UploadOptions& options);

// One PUT of known size that is streamed while it is written. It cannot be
// repeated from here: a failure is unavailable, and the caller starts over.
Result<std::unique_ptr<BlobWriter>> make_streamed_upload(std::shared_ptr<Session> session,
                                                         const oci::Reference& name, uint64_t size,
                                                         const oci::Digest& digest);

// An upload session at the registry: POST, its moving location, DELETE.
class UploadSession {
 public:
  UploadSession(std::shared_ptr<Session> session, const oci::Reference& name);

  Status open();
  bool is_open() const { return !location_.empty(); }
  // Sends bytes that start at `offset` of the blob; all there when it returns.
  Status patch(ByteView chunk, uint64_t offset);
  // Ends the upload, with the last bytes (or all of them).
  Status put(ByteView rest, uint64_t offset, const oci::Digest& digest);
  // Best effort, one try.
  void abandon();
  // location + ?digest=
  std::string commit_url(const oci::Digest& digest) const;
  const Caller& caller() const { return caller_; }
  // Adopts what an answer says of where to go on.
  Status adopt_location(const net::Response& response, const std::string& asked);

 private:
  Result<uint64_t> remote_offset();
  Result<bool> blob_is_there(const oci::Digest& digest) const;

  std::shared_ptr<Session> session_;
  oci::Reference name_;
  Caller caller_;
  std::string location_;  // with its query: never for a message
};

}  // namespace pagein::registry
