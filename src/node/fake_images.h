// Images in memory instead of a registry. For tests only.
#pragma once

#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "fetch/fake_source.h"
#include "oci/media_types.h"
#include "registry/image_store.h"

namespace pagein::node {

inline constexpr const char* kManifestType = "application/vnd.oci.image.manifest.v1+json";
inline constexpr const char* kIndexType = "application/vnd.oci.image.index.v1+json";

// Documents in memory.
class FakeImages : public registry::ImageSource {
 public:
  oci::Descriptor put(const std::string& bytes, std::string media_type) {
    oci::Descriptor descriptor;
    descriptor.media_type = std::move(media_type);
    descriptor.digest = oci::Digest::of(as_bytes(bytes));
    descriptor.size = bytes.size();
    documents_[descriptor.digest.str()] = bytes;
    return descriptor;
  }
  Result<oci::Descriptor> resolve() override {
    ++resolves;
    if (broken) return *broken;
    if (tag.digest.empty()) return Error(Code::not_found, "no such tag");
    return tag;
  }
  Result<oci::Descriptor> resolve(const std::string&) override { return resolve(); }
  Result<std::string> read_manifest(const oci::Descriptor& descriptor) override {
    return read_blob(descriptor, oci::kMaxManifestSize);
  }
  Result<std::string> read_blob(const oci::Descriptor& descriptor, uint64_t) override {
    const auto it = documents_.find(descriptor.digest.str());
    if (it == documents_.end()) return Error(Code::not_found, "no " + descriptor.digest.str());
    return it->second;
  }
  Result<std::unique_ptr<ByteStream>> open_blob(const oci::Descriptor&) override {
    return Error(Code::unsupported, "not here");
  }
  std::shared_ptr<registry::BlobSource> blobs() override { return source; }
  Result<std::vector<oci::Descriptor>> referrers(const oci::Digest&, std::string_view) override {
    return std::vector<oci::Descriptor>();
  }
  std::string describe() const override { return "fake"; }

  oci::Descriptor tag;
  std::atomic<int> resolves{0};
  std::optional<Error> broken;  // what resolving says instead
  std::shared_ptr<fetch::testing::FakeSource> source =
      std::make_shared<fetch::testing::FakeSource>();

 private:
  std::map<std::string, std::string> documents_;
};

}  // namespace pagein::node
