#include "registry/file_store.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"
#include "oci/annotations.h"
#include "oci/media_types.h"
#include "registry/blob_reader.h"

namespace pagein::registry {

namespace {

// Reads an extent in order, on the caller's thread.
class ExtentStream : public ByteStream {
 public:
  explicit ExtentStream(FileExtent extent) : extent_(std::move(extent)) {}
  Result<size_t> read(std::span<uint8_t> out) override {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(out.size(), extent_.size - at_));
    if (n == 0) return size_t{0};
    RETURN_IF_ERROR(pread_full(extent_.file->get(), out.first(n), extent_.offset + at_));
    at_ += n;
    return n;
  }

 private:
  FileExtent extent_;
  uint64_t at_ = 0;
};

// The names an index entry goes by.
bool has_name(const oci::Descriptor& entry, std::string_view name) {
  if (entry.annotation(oci::annotation::kRefName) == name) return true;
  const std::string_view full = entry.annotation(oci::annotation::kContainerdImageName);
  return !full.empty() && (full == name || full.ends_with(":" + std::string(name)));
}

std::string names_of(const oci::ImageIndex& index) {
  std::string out;
  for (const oci::Descriptor& entry : index.manifests) {
    std::string_view name = entry.annotation(oci::annotation::kRefName);
    if (out.size() > 500) return out + ", ...";
    out += (out.empty() ? "" : ", ") + (name.empty() ? entry.digest.str() : std::string(name));
  }
  return out.empty() ? "nothing" : out;
}

}  // namespace

FileStore::FileStore(BlobLocator locate, std::string name, std::string description)
    : locate_(std::move(locate)),
      name_(std::move(name)),
      description_(std::move(description)),
      blobs_(make_file_blob_source(locate_, description_)) {}

Result<oci::Descriptor> FileStore::resolve() {
  if (!name_.empty()) return resolve(name_);
  ASSIGN_OR_RETURN(const oci::ImageIndex list, index());
  const oci::Descriptor* only = nullptr;
  for (const oci::Descriptor& entry : list.manifests) {
    // Referrers stand in the index without a name; they are not the image.
    if (!entry.artifact_type.empty() && entry.annotation(oci::annotation::kRefName).empty()) {
      continue;
    }
    if (only != nullptr) {
      return Error(Code::invalid_argument,
                   description_ + " has several images, name one of: " + names_of(list));
    }
    only = &entry;
  }
  if (only == nullptr) return Error(Code::not_found, description_ + " has no image");
  return *only;
}

Result<oci::Descriptor> FileStore::resolve(const std::string& tag_or_digest) {
  ASSIGN_OR_RETURN(const oci::ImageIndex list, index());
  const Result<oci::Digest> digest = oci::Digest::parse(tag_or_digest);
  for (const oci::Descriptor& entry : list.manifests) {
    if (digest.ok() ? entry.digest == *digest : has_name(entry, tag_or_digest)) return entry;
  }
  if (!digest.ok()) {
    return Error(Code::not_found, description_ + " has no image named " + tag_or_digest +
                                      "; it has " + names_of(list));
  }
  // A manifest below an index is not listed, but its blob is there.
  ASSIGN_OR_RETURN(const FileExtent extent, locate_(*digest));
  oci::Descriptor out;
  out.digest = *digest;
  out.size = extent.size;
  ASSIGN_OR_RETURN(const std::string bytes, read_blob(out, oci::kMaxManifestSize));
  ASSIGN_OR_RETURN(out.media_type, oci::detect_manifest_type(as_bytes(bytes)));
  return out;
}

Result<std::string> FileStore::read_manifest(const oci::Descriptor& descriptor) {
  return read_blob(descriptor, oci::kMaxManifestSize);
}

Result<std::string> FileStore::read_blob(const oci::Descriptor& descriptor, uint64_t cap) {
  const std::string what = description_ + " blob " + descriptor.digest.str();
  Result<FileExtent> extent = locate_(descriptor.digest);
  if (!extent.ok()) return extent.error().with_context(what);
  if (extent->size != descriptor.size) {
    return Error(Code::corrupt_input, what + ": has " + std::to_string(extent->size) +
                                          " bytes, not " + std::to_string(descriptor.size));
  }
  if (extent->size > cap) {
    return Error(Code::exhausted, what + ": has " + std::to_string(extent->size) +
                                      " bytes, more than the " + std::to_string(cap) +
                                      " allowed here");
  }
  std::string out(static_cast<size_t>(extent->size), '\0');
  const std::span<uint8_t> into(reinterpret_cast<uint8_t*>(out.data()), out.size());
  RETURN_IF_ERROR(pread_full(extent->file->get(), into, extent->offset));
  if (oci::Digest::of(as_bytes(out)) != descriptor.digest) {
    return Error(Code::corrupt_input, what + ": its content has another digest");
  }
  return out;
}

Result<std::unique_ptr<ByteStream>> FileStore::open_blob(const oci::Descriptor& descriptor) {
  Result<FileExtent> extent = locate_(descriptor.digest);
  if (!extent.ok()) {
    return extent.error().with_context(description_ + " blob " + descriptor.digest.str());
  }
  return std::unique_ptr<ByteStream>(std::make_unique<VerifyingStream>(
      std::make_unique<ExtentStream>(*std::move(extent)), descriptor.digest, descriptor.size));
}

Result<std::vector<oci::Descriptor>> FileStore::referrers(const oci::Digest& subject,
                                                          std::string_view artifact_type) {
  std::vector<oci::Descriptor> out;
  ASSIGN_OR_RETURN(const oci::ImageIndex list, index());
  for (oci::Descriptor entry : list.manifests) {
    if (!oci::is_manifest(entry.media_type)) continue;
    ASSIGN_OR_RETURN(const std::string bytes, read_manifest(entry));
    ASSIGN_OR_RETURN(const oci::Manifest manifest,
                     oci::parse_manifest(as_bytes(bytes), entry.media_type));
    if (!manifest.subject || manifest.subject->digest != subject) continue;
    entry.artifact_type = std::string(manifest.effective_artifact_type());
    entry.annotations = manifest.annotations;
    if (artifact_type.empty() || entry.artifact_type == artifact_type) out.push_back(entry);
  }
  return out;
}

}  // namespace pagein::registry
