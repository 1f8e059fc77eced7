// Where images come from and go to: a registry, an OCI layout folder or an
// archive, behind two interfaces.
//
//   LOCATION                        source  destination
//   [registry/]name[:tag][@digest]  yes     yes
//   oci:DIR[:TAG]                   yes     yes
//   oci-archive:FILE[:TAG]          yes     no
//   docker-archive:FILE[:REF]       yes     no   (docker save)
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/byte_stream.h"
#include "oci/manifest.h"
#include "oci/reference.h"
#include "registry/blob_source.h"
#include "registry/repository.h"

namespace pagein::registry {

struct Location {
  enum class Kind { registry, oci_layout, oci_archive, docker_archive };
  Kind kind = Kind::registry;
  oci::Reference reference;    // registry
  std::filesystem::path path;  // the others
  std::string name;            // the others: TAG or REF; may be empty

  std::string str() const;  // parses back to the same
};

// Pure. invalid_argument says what is wrong.
Result<Location> parse_location(std::string_view text);

// Thread-safe. Calls may block; not on the net thread.
class ImageSource {
 public:
  virtual ~ImageSource() = default;
  // The image that the location named (its tag or digest; a layout's or
  // archive's only image). not_found lists what is there.
  virtual Result<oci::Descriptor> resolve() = 0;
  // Any tag or digest of the same repository or store.
  virtual Result<oci::Descriptor> resolve(const std::string& tag_or_digest) = 0;
  // Bytes that hash to descriptor.digest; at most oci::kMaxManifestSize.
  virtual Result<std::string> read_manifest(const oci::Descriptor& descriptor) = 0;
  // Whole and verified; exhausted beyond `cap`.
  virtual Result<std::string> read_blob(const oci::Descriptor& descriptor, uint64_t cap) = 0;
  // In order and verified at its end (VerifyingStream).
  virtual Result<std::unique_ptr<ByteStream>> open_blob(const oci::Descriptor& descriptor) = 0;
  // Ranged and not verified.
  virtual std::shared_ptr<BlobSource> blobs() = 0;
  virtual Result<std::vector<oci::Descriptor>> referrers(const oci::Digest& subject,
                                                         std::string_view artifact_type) = 0;
  virtual std::string describe() const = 0;
  // The repository, where this is a registry: for mounting blobs across.
  virtual std::optional<oci::Reference> repository() const { return std::nullopt; }
};

// Thread-safe; several blobs may be written at once. Calls may block. Push
// blobs before the manifests that name them, and children before an index.
class ImageDestination {
 public:
  virtual ~ImageDestination() = default;
  virtual Result<bool> has_blob(const oci::Descriptor& descriptor) = 0;
  virtual Result<std::unique_ptr<BlobWriter>> start_blob(const UploadOptions& options) = 0;
  // Makes a blob of another repository of the same registry appear here
  // without moving bytes. false: not possible, upload it.
  virtual Result<bool> mount_blob(const oci::Descriptor& descriptor,
                                  const oci::Reference& from) = 0;
  // `tag` empty: by digest only.
  virtual Result<oci::Descriptor> put_manifest(std::string_view bytes, std::string_view media_type,
                                               const std::string& tag) = 0;
  // A manifest with a subject, findable from it.
  virtual Result<oci::Descriptor> put_referrer(std::string_view bytes,
                                               std::string_view media_type) = 0;
  // The tag of the location; "" if it named none.
  virtual std::string tag() const = 0;
  virtual std::string describe() const = 0;
  // The same place as a source (to read back, or to copy within).
  virtual std::shared_ptr<ImageSource> as_source() = 0;
};

// `session` may be null where the location is not a registry.
Result<std::shared_ptr<ImageSource>> open_source(const Location& location,
                                                 const std::shared_ptr<Session>& session);
Result<std::shared_ptr<ImageDestination>> open_destination(const Location& location,
                                                           const std::shared_ptr<Session>& session);

// Copies the stream unless the blob is there; verified against `descriptor`.
Status put_blob(ImageDestination& destination, const oci::Descriptor& descriptor,
                ByteStream& stream);
// Small bytes; returns their descriptor.
Result<oci::Descriptor> put_blob(ImageDestination& destination, std::string_view bytes,
                                 std::string_view media_type);
// Mounts, or else copies, one blob.
Status copy_blob(ImageSource& source, ImageDestination& destination,
                 const oci::Descriptor& descriptor);

}  // namespace pagein::registry
