// A registry's repository as ImageSource and ImageDestination.
#include "registry/blob_reader.h"
#include "registry/stores.h"

namespace pagein::registry {

namespace {

class RegistrySource : public ImageSource {
 public:
  RegistrySource(std::shared_ptr<Session> session, const oci::Reference& reference)
      : repository_(std::move(session), reference),
        reference_(reference.with_default_tag()),
        blobs_(repository_.blobs()) {}

  Result<oci::Descriptor> resolve() override {
    return with_name(repository_.resolve(reference_.identifier()));
  }
  Result<oci::Descriptor> resolve(const std::string& tag_or_digest) override {
    return with_name(repository_.resolve(tag_or_digest));
  }
  Result<std::string> read_manifest(const oci::Descriptor& descriptor) override {
    ASSIGN_OR_RETURN(ManifestBytes manifest, repository_.get_manifest(descriptor.digest));
    return std::move(manifest.bytes);
  }
  Result<std::string> read_blob(const oci::Descriptor& descriptor, uint64_t cap) override {
    return repository_.read_blob(descriptor, cap);
  }
  Result<std::unique_ptr<ByteStream>> open_blob(const oci::Descriptor& descriptor) override {
    auto reader = std::make_unique<BlobReader>(blobs_, descriptor.digest, descriptor.size);
    return std::unique_ptr<ByteStream>(
        std::make_unique<VerifyingStream>(std::move(reader), descriptor.digest, descriptor.size));
  }
  std::shared_ptr<BlobSource> blobs() override { return blobs_; }
  Result<std::vector<oci::Descriptor>> referrers(const oci::Digest& subject,
                                                 std::string_view artifact_type) override {
    return repository_.referrers(subject, artifact_type);
  }
  std::string describe() const override { return reference_.str(); }
  std::optional<oci::Reference> repository() const override { return repository_.name(); }

 private:
  Result<oci::Descriptor> with_name(Result<oci::Descriptor> found) const {
    if (!found.ok() && !found.error().message.starts_with(reference_.name())) {
      return found.error().with_context(reference_.str());
    }
    return found;
  }
  const Repository repository_;
  const oci::Reference reference_;
  const std::shared_ptr<BlobSource> blobs_;
};

class RegistryDestination : public ImageDestination {
 public:
  RegistryDestination(std::shared_ptr<Session> session, const oci::Reference& reference)
      : repository_(std::move(session), reference), reference_(reference.with_default_tag()) {}

  Result<bool> has_blob(const oci::Descriptor& descriptor) override {
    return repository_.blob_exists(descriptor.digest);
  }
  Result<std::unique_ptr<BlobWriter>> start_blob(const UploadOptions& options) override {
    return repository_.start_upload(options);
  }
  Result<bool> mount_blob(const oci::Descriptor& descriptor, const oci::Reference& from) override {
    if (from.host() != repository_.name().host()) return false;
    return repository_.mount_blob(descriptor.digest, from.repository());
  }
  Result<oci::Descriptor> put_manifest(std::string_view bytes, std::string_view media_type,
                                       const std::string& tag) override {
    return repository_.push_manifest(bytes, media_type, tag);
  }
  Result<oci::Descriptor> put_referrer(std::string_view bytes,
                                       std::string_view media_type) override {
    return repository_.push_referrer(bytes, media_type);
  }
  std::string tag() const override { return reference_.tag().value_or(""); }
  std::string describe() const override { return reference_.str(); }
  std::shared_ptr<ImageSource> as_source() override {
    return make_registry_source(repository_.session(), reference_);
  }

 private:
  const Repository repository_;
  const oci::Reference reference_;
};

}  // namespace

std::shared_ptr<ImageSource> make_registry_source(std::shared_ptr<Session> session,
                                                  const oci::Reference& reference) {
  return std::make_shared<RegistrySource>(std::move(session), reference);
}

std::shared_ptr<ImageDestination> make_registry_destination(std::shared_ptr<Session> session,
                                                            const oci::Reference& reference) {
  return std::make_shared<RegistryDestination>(std::move(session), reference);
}

}  // namespace pagein::registry
