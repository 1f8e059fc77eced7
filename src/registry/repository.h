// One repository of one registry, blocking calls (OCI distribution-spec v1.1;
// docker-registry 2.8's ways where they differ).
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/byte_stream.h"
#include "oci/manifest.h"
#include "oci/reference.h"
#include "registry/blob_source.h"
#include "registry/session.h"

namespace pagein::registry {

// A manifest or index as it came: bytes that hash to descriptor.digest.
struct ManifestBytes {
  oci::Descriptor descriptor;  // media type, digest, size
  std::string bytes;
};

// A blob upload under way. One user at a time; may block. Destroyed before
// commit: the upload is cancelled at the registry (best effort).
class BlobWriter {
 public:
  virtual ~BlobWriter() = default;
  virtual Status write(ByteView data) = 0;
  // All bytes are written. `expected`: what they must hash to (corrupt_input,
  // and nothing is stored, if they do not). Returns digest and size.
  virtual Result<oci::Descriptor> commit(const std::optional<oci::Digest>& expected) = 0;
  uint64_t bytes_written() const { return written_; }

 protected:
  uint64_t written_ = 0;
};

enum class UploadMode {
  automatic,   // one PUT for what fits one chunk, else chunks
  monolithic,  // one PUT, streamed as it is written: size and digest beforehand, no resuming
  chunked,     // PATCH by chunks, resumed at the server's offset after a failure
};

struct UploadOptions {
  UploadMode mode = UploadMode::automatic;
  // Held in memory once; 16 MiB suits registries with a floor (5 MiB) or a cap (20 MiB) on chunks.
  size_t chunk_size = 16 << 20;
  // Chunked: a folder for an unlinked file that keeps what was written, so that
  // an upload that the registry has lost can start over (docker-registry 2.8
  // drops an upload whose connection broke within a chunk). Empty: no such file.
  std::filesystem::path spool_dir;
  // Where known; both are needed for monolithic.
  std::optional<uint64_t> size;
  std::optional<oci::Digest> digest;
};

// Thread-safe; cheap to copy. Calls block, so not on the net thread. All
// retry 429, 5xx and connection failures within Session's call timeout.
// Errors: not_found; unauthenticated (401 and 403 after one refresh: the
// message says which credentials to look at); unavailable; timeout;
// corrupt_input (the registry's bytes do not match their digest or break the
// protocol); unsupported.
class Repository {
 public:
  Repository(std::shared_ptr<Session> session, const oci::Reference& name);

  // Tag or digest -> descriptor. HEAD where the answer suffices, else GET.
  Result<oci::Descriptor> resolve(const std::string& tag_or_digest) const;
  Result<ManifestBytes> get_manifest(const std::string& tag_or_digest) const {
    return get_manifest(tag_or_digest, Capability::resolve);
  }
  // `where` push: from the host that pushes go to, no mirror (which may be behind).
  Result<ManifestBytes> get_manifest(const std::string& tag_or_digest, Capability where) const;
  Result<ManifestBytes> get_manifest(const oci::Digest& digest) const {
    return get_manifest(digest.str());
  }

  // nullopt: not there. Both ask the host that pushes go to.
  Result<std::optional<uint64_t>> blob_size(const oci::Digest& digest) const;
  Result<bool> blob_exists(const oci::Digest& digest) const;
  // Whole and verified; exhausted where the descriptor says more than `cap`.
  Result<std::string> read_blob(const oci::Descriptor& descriptor, uint64_t cap) const;
  // Ranged, asynchronous, unverified reads. One object for each call.
  std::shared_ptr<BlobSource> blobs() const;

  Result<std::unique_ptr<BlobWriter>> start_upload(const UploadOptions& options = {}) const;
  // Uploads small bytes in one go, if they are not there yet.
  Result<oci::Descriptor> push_blob(std::string_view bytes, std::string_view media_type) const;
  // Cross-repository mount; false: the registry would rather have an upload.
  Result<bool> mount_blob(const oci::Digest& digest, const std::string& from_repository) const;

  // Stored under `tag`, or under its digest alone where that is empty.
  Result<oci::Descriptor> push_manifest(std::string_view bytes, std::string_view media_type,
                                        const std::string& tag = {}) const;
  // Also lists it as a referrer of its subject: by the registry where it has
  // the referrers API, else in the fallback tag.
  Result<oci::Descriptor> push_referrer(std::string_view bytes, std::string_view media_type) const;
  Status delete_manifest(const std::string& tag_or_digest) const;

  // Manifests whose subject is `digest`; filtered by artifact type unless it
  // is empty. No referrers: an empty list.
  Result<std::vector<oci::Descriptor>> referrers(const oci::Digest& digest,
                                                 std::string_view artifact_type = {}) const;
  Result<std::vector<std::string>> tags() const;

  const oci::Reference& name() const { return name_; }  // without tag and digest
  const std::shared_ptr<Session>& session() const { return session_; }

 private:
  struct Pushed {
    oci::Descriptor descriptor;
    bool subject_listed;  // the registry keeps the list of referrers itself
  };
  Result<Pushed> put_manifest(std::string_view bytes, std::string_view media_type,
                              const std::string& tag) const;

  std::shared_ptr<Session> session_;
  oci::Reference name_;
};

}  // namespace pagein::registry
