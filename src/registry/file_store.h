// What sources of local files share: blobs found by a BlobLocator, and an OCI
// index (a layout's index.json) that names images.
#pragma once

#include <filesystem>
#include <string>

#include "registry/file_blob_source.h"
#include "registry/image_store.h"

namespace pagein::registry {

// Thread-safe. `index()` is asked anew by each call, so a layout that changes
// is seen.
class FileStore : public ImageSource {
 public:
  FileStore(BlobLocator locate, std::string name, std::string description);

  Result<oci::Descriptor> resolve() override;
  Result<oci::Descriptor> resolve(const std::string& tag_or_digest) override;
  Result<std::string> read_manifest(const oci::Descriptor& descriptor) override;
  Result<std::string> read_blob(const oci::Descriptor& descriptor, uint64_t cap) override;
  Result<std::unique_ptr<ByteStream>> open_blob(const oci::Descriptor& descriptor) override;
  std::shared_ptr<BlobSource> blobs() override { return blobs_; }
  Result<std::vector<oci::Descriptor>> referrers(const oci::Digest& subject,
                                                 std::string_view artifact_type) override;
  std::string describe() const override { return description_; }

 protected:
  virtual Result<oci::ImageIndex> index() = 0;

 private:
  const BlobLocator locate_;
  const std::string name_;
  const std::string description_;
  const std::shared_ptr<BlobSource> blobs_;
};

}  // namespace pagein::registry
