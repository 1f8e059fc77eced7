// Images in archive files: OCI archives (a layout in a tar) and what `docker
// save` writes (manifest.json; Docker image specification v1.2 "Combined Image
// JSON + Filesystem Changeset Format").
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "oci/annotations.h"
#include "oci/image_config.h"
#include "oci/json.h"
#include "oci/media_types.h"
#include "registry/archive_index.h"
#include "registry/file_store.h"
#include "registry/stores.h"

namespace pagein::registry {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kBlobs = "blobs/sha256/";
constexpr size_t kHashBuffer = 1 << 20;

// The open file and where its members lie. Immutable.
struct Archive {
  fs::path path;
  std::shared_ptr<const UniqueFd> file;
  ArchiveIndex index;

  Result<FileExtent> extent(const std::string& member) const {
    const ArchiveMember* found = index.find(member);
    if (found == nullptr) {
      return Error(Code::not_found, path.string() + " has no member " + member.substr(0, 300));
    }
    return FileExtent{file, found->offset, found->size};
  }
  Result<std::string> read(const std::string& member, uint64_t cap) const {
    ASSIGN_OR_RETURN(const FileExtent where, extent(member));
    if (where.size > cap) {
      return Error(Code::exhausted, path.string() + ": " + member + " has more than " +
                                        std::to_string(cap) + " bytes");
    }
    std::string out(static_cast<size_t>(where.size), '\0');
    RETURN_IF_ERROR(pread_full(
        file->get(), std::span<uint8_t>(reinterpret_cast<uint8_t*>(out.data()), out.size()),
        where.offset));
    return out;
  }
};

Result<std::shared_ptr<const Archive>> open_archive(const fs::path& path) {
  auto out = std::make_shared<Archive>();
  out->path = path;
  ASSIGN_OR_RETURN(UniqueFd fd, open_file(path, O_RDONLY));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return errno_error(errno, "stat " + path.string());
  if (!S_ISREG(st.st_mode)) {
    return Error(Code::invalid_argument, path.string() + " is not a regular file");
  }
  out->file = std::make_shared<const UniqueFd>(std::move(fd));
  Result<ArchiveIndex> index = ArchiveIndex::read(
      [&](uint64_t offset, std::span<uint8_t> into) {
        return pread_full(out->file->get(), into, offset);
      },
      static_cast<uint64_t>(st.st_size));
  if (!index.ok()) return index.error().with_context(path.string());
  out->index = *std::move(index);
  return std::shared_ptr<const Archive>(std::move(out));
}

// An index that does not change, over members that are found by digest.
class ArchiveSource : public FileStore {
 public:
  ArchiveSource(BlobLocator locate, oci::ImageIndex index, const std::string& name,
                std::string description)
      : FileStore(std::move(locate), name, std::move(description)), index_(std::move(index)) {}

 protected:
  Result<oci::ImageIndex> index() override { return index_; }

 private:
  const oci::ImageIndex index_;
};

oci::LayerCompression compression_of(const Archive& archive, const FileExtent& where) {
  std::array<uint8_t, 4> magic{};
  const size_t n = static_cast<size_t>(std::min<uint64_t>(magic.size(), where.size));
  if (!pread_full(archive.file->get(), std::span(magic).first(n), where.offset).ok()) {
    return oci::LayerCompression::none;
  }
  if (magic[0] == 0x1f && magic[1] == 0x8b) return oci::LayerCompression::gzip;
  if (magic == std::array<uint8_t, 4>{0x28, 0xb5, 0x2f, 0xfd}) return oci::LayerCompression::zstd;
  return oci::LayerCompression::none;
}

Result<oci::Digest> hash_of(const FileExtent& where) {
  Sha256 hash;
  Bytes buffer(kHashBuffer);
  for (uint64_t at = 0; at < where.size;) {
    const size_t n = static_cast<size_t>(std::min<uint64_t>(buffer.size(), where.size - at));
    RETURN_IF_ERROR(pread_full(where.file->get(), std::span(buffer).first(n), where.offset + at));
    hash.update(std::span<const uint8_t>(buffer).first(n));
    at += n;
  }
  return oci::Digest(hash.finish());
}

// One entry of manifest.json.
struct SavedImage {
  std::string config;
  std::vector<std::string> tags;
  std::vector<std::string> layers;
};

Result<std::vector<SavedImage>> parse_saved(ByteView json) {
  ASSIGN_OR_RETURN(const oci::Json document, oci::parse_json(json, "manifest.json"));
  if (!document.is_array()) return Error(Code::corrupt_input, "manifest.json is not an array");
  std::vector<SavedImage> out;
  for (const oci::Json& element : document) {
    SavedImage image;
    ASSIGN_OR_RETURN(image.config, oci::json_string(element, "Config"));
    ASSIGN_OR_RETURN(image.tags, oci::json_strings(element, "RepoTags"));
    ASSIGN_OR_RETURN(image.layers, oci::json_strings(element, "Layers"));
    if (image.config.empty() || image.layers.size() > oci::kMaxLayers) {
      return Error(Code::corrupt_input, "manifest.json names no config, or too many layers");
    }
    out.push_back(std::move(image));
  }
  return out;
}

bool has_tag(const SavedImage& image, const std::string& name) {
  const Result<oci::Reference> wanted = oci::Reference::parse(name);
  for (const std::string& tag : image.tags) {
    const Result<oci::Reference> found = oci::Reference::parse(tag);
    if (tag == name || tag.ends_with(":" + name)) return true;
    if (wanted.ok() && found.ok() && wanted->with_default_tag() == found->with_default_tag()) {
      return true;
    }
  }
  return false;
}

Result<SavedImage> choose(const std::vector<SavedImage>& images, const std::string& name,
                          const std::string& path) {
  if (name.empty() && images.size() == 1) return images[0];
  std::string names;
  for (const SavedImage& image : images) {
    if (!name.empty() && has_tag(image, name)) return image;
    for (const std::string& tag : image.tags) {
      if (names.size() < 500) names += (names.empty() ? "" : ", ") + tag;
    }
  }
  return Error(name.empty() ? Code::invalid_argument : Code::not_found,
               path + (name.empty() ? " has several images, or none" : " has no image " + name) +
                   "; it has " + (names.empty() ? "no names" : names));
}

// What becomes of a saved image: a manifest of our making over its members.
struct Assembled {
  std::map<oci::Digest, FileExtent> blobs;
  oci::Manifest manifest;
};

Status add_layer(const Archive& archive, const std::string& member, const oci::Digest& diff_id,
                 Assembled* out) {
  ASSIGN_OR_RETURN(const FileExtent where, archive.extent(member));
  const oci::LayerCompression compression = compression_of(archive, where);
  oci::Descriptor layer;
  layer.media_type = std::string(oci::layer_media_type(compression));
  layer.size = where.size;
  const std::string name = member.starts_with("./") ? member.substr(2) : member;
  const Result<oci::Digest> named = name.starts_with(kBlobs)
                                        ? oci::Digest::parse("sha256:" + name.substr(kBlobs.size()))
                                        : Result<oci::Digest>(Error(Code::not_found, ""));
  if (compression == oci::LayerCompression::none) {
    layer.digest = diff_id;  // an uncompressed layer is its diffID; readers verify
  } else if (named.ok()) {
    layer.digest = *named;
  } else {
    ASSIGN_OR_RETURN(layer.digest, hash_of(where));
  }
  out->blobs[layer.digest] = where;
  out->manifest.layers.push_back(std::move(layer));
  return {};
}

Result<Assembled> assemble(const Archive& archive, const SavedImage& image) {
  Assembled out;
  ASSIGN_OR_RETURN(const std::string config, archive.read(image.config, oci::kMaxConfigSize));
  ASSIGN_OR_RETURN(const oci::ImageConfig parsed, oci::parse_image_config(as_bytes(config)));
  if (parsed.diff_ids.size() != image.layers.size()) {
    return Error(Code::corrupt_input, archive.path.string() + ": manifest.json names " +
                                          std::to_string(image.layers.size()) +
                                          " layers, the config " +
                                          std::to_string(parsed.diff_ids.size()));
  }
  out.manifest.config.media_type = std::string(oci::media_type::kOciConfig);
  out.manifest.config.digest = oci::Digest::of(as_bytes(config));
  out.manifest.config.size = config.size();
  ASSIGN_OR_RETURN(out.blobs[out.manifest.config.digest], archive.extent(image.config));
  for (size_t i = 0; i < image.layers.size(); ++i) {
    RETURN_IF_ERROR(add_layer(archive, image.layers[i], parsed.diff_ids[i], &out));
  }
  return out;
}

// Bytes that are in no member need a file to be read from.
Result<FileExtent> to_anonymous_file(std::string_view bytes) {
  UniqueFd fd(::memfd_create("pagein-manifest", MFD_CLOEXEC));
  if (!fd.valid()) return errno_error(errno, "memfd_create");
  RETURN_IF_ERROR(write_full(fd.get(), as_bytes(bytes)));
  return FileExtent{std::make_shared<const UniqueFd>(std::move(fd)), 0, bytes.size()};
}

}  // namespace

Result<std::shared_ptr<ImageSource>> open_oci_archive(const fs::path& file,
                                                      const std::string& name) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Archive> archive, open_archive(file));
  Result<std::string> text = archive->read("index.json", oci::kMaxManifestSize);
  if (!text.ok()) {
    return Error(text.error().code,
                 file.string() + " is not an OCI archive: " + text.error().message);
  }
  ASSIGN_OR_RETURN(oci::ImageIndex index, oci::parse_index(as_bytes(*text)));
  BlobLocator locate = [archive](const oci::Digest& digest) {
    return archive->extent(std::string(kBlobs) + digest.hex());
  };
  return std::shared_ptr<ImageSource>(std::make_shared<ArchiveSource>(
      std::move(locate), std::move(index), name, "oci-archive:" + file.string()));
}

Result<std::shared_ptr<ImageSource>> open_docker_archive(const fs::path& file,
                                                         const std::string& name) {
  ASSIGN_OR_RETURN(const std::shared_ptr<const Archive> archive, open_archive(file));
  Result<std::string> text = archive->read("manifest.json", oci::kMaxManifestSize);
  if (!text.ok()) {
    return Error(text.error().code,
                 file.string() + " is not a docker-archive: " + text.error().message);
  }
  Result<std::vector<SavedImage>> images = parse_saved(as_bytes(*text));
  if (!images.ok()) return images.error().with_context(file.string());
  ASSIGN_OR_RETURN(const SavedImage image, choose(*images, name, file.string()));
  ASSIGN_OR_RETURN(Assembled parts, assemble(*archive, image));

  const std::string manifest = oci::serialize(parts.manifest);
  oci::Descriptor entry;
  entry.media_type = parts.manifest.media_type;
  entry.digest = oci::Digest::of(as_bytes(manifest));
  entry.size = manifest.size();
  if (!name.empty()) entry.annotations[std::string(oci::annotation::kRefName)] = name;
  ASSIGN_OR_RETURN(parts.blobs[entry.digest], to_anonymous_file(manifest));
  oci::ImageIndex index;
  index.manifests.push_back(std::move(entry));

  BlobLocator locate = [blobs = std::move(parts.blobs),
                        path = file.string()](const oci::Digest& digest) -> Result<FileExtent> {
    const auto it = blobs.find(digest);
    if (it != blobs.end()) return it->second;
    return Error(Code::not_found, path + " has no blob " + digest.str());
  };
  return std::shared_ptr<ImageSource>(std::make_shared<ArchiveSource>(
      std::move(locate), std::move(index), name, "docker-archive:" + file.string()));
}

}  // namespace pagein::registry
