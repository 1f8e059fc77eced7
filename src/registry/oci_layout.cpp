// OCI image layout folders (OCI image-spec v1.1, image-layout.md).
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

#include "base/file.h"
#include "oci/annotations.h"
#include "oci/json.h"
#include "oci/media_types.h"
#include "registry/file_store.h"
#include "registry/stores.h"

namespace pagein::registry {

namespace {

namespace fs = std::filesystem;

constexpr std::string_view kLayoutFile = R"({"imageLayoutVersion":"1.0.0"})";
constexpr uint64_t kMaxLayoutFile = 64 << 10;

fs::path blob_path(const fs::path& dir, const oci::Digest& digest) {
  return dir / "blobs" / "sha256" / digest.hex();
}

Result<oci::ImageIndex> load_index(const fs::path& dir) {
  ASSIGN_OR_RETURN(const std::string text, read_file(dir / "index.json", oci::kMaxManifestSize));
  Result<oci::ImageIndex> index = oci::parse_index(as_bytes(text));
  if (!index.ok()) return index.error().with_context((dir / "index.json").string());
  return index;
}

Status check_layout(const fs::path& dir) {
  Result<std::string> text = read_file(dir / "oci-layout", kMaxLayoutFile);
  if (!text.ok()) {
    return Error(text.error().code,
                 dir.string() + " is not an OCI layout: " + text.error().message);
  }
  Result<oci::Json> document = oci::parse_json(as_bytes(*text), "oci-layout");
  if (!document.ok()) return document.error().with_context(dir.string());
  const Result<std::string> version = oci::json_string(*document, "imageLayoutVersion");
  if (version.ok() && version->starts_with("1.")) return {};
  return Error(Code::unsupported, dir.string() + ": its imageLayoutVersion is not 1.x");
}

class LayoutSource : public FileStore {
 public:
  LayoutSource(const fs::path& dir, const std::string& name)
      : FileStore(layout_locator(dir), name, "oci:" + dir.string()), dir_(dir) {}

 protected:
  Result<oci::ImageIndex> index() override { return load_index(dir_); }

 private:
  const fs::path dir_;
};

// Writes beside the blobs and renames at commit; a crash leaves a file whose
// name no reader looks for.
class LayoutWriter : public BlobWriter {
 public:
  LayoutWriter(fs::path dir, fs::path temp, UniqueFd fd)
      : dir_(std::move(dir)), temp_(std::move(temp)), fd_(std::move(fd)) {}
  ~LayoutWriter() override {
    if (!temp_.empty()) ::unlink(temp_.c_str());
  }

  Status write(ByteView data) override {
    hash_.update(data);
    written_ += data.size();
    return write_full(fd_.get(), data);
  }

  Result<oci::Descriptor> commit(const std::optional<oci::Digest>& expected) override {
    oci::Descriptor out;
    out.digest = oci::Digest(hash_.finish());
    out.size = written_;
    if (expected && *expected != out.digest) {
      return Error(Code::corrupt_input, "the bytes written have digest " + out.digest.str() +
                                            ", not " + expected->str());
    }
    if (::fsync(fd_.get()) != 0) return errno_error(errno, "fsync " + temp_.string());
    const fs::path path = blob_path(dir_, out.digest);
    if (::rename(temp_.c_str(), path.c_str()) != 0) {
      return errno_error(errno, "rename to " + path.string());
    }
    temp_.clear();
    RETURN_IF_ERROR(fsync_dir(path.parent_path()));
    return out;
  }

 private:
  const fs::path dir_;
  fs::path temp_;
  UniqueFd fd_;
  Sha256 hash_;
};

class LayoutDestination : public ImageDestination {
 public:
  LayoutDestination(fs::path dir, const std::string& tag)
      : dir_(std::move(dir)), tag_(tag.empty() ? "latest" : tag) {}

  Result<bool> has_blob(const oci::Descriptor& descriptor) override {
    struct stat st;
    if (::stat(blob_path(dir_, descriptor.digest).c_str(), &st) != 0) return false;
    // A blob of the wrong size is a wreck: written again.
    return S_ISREG(st.st_mode) && static_cast<uint64_t>(st.st_size) == descriptor.size;
  }

  Result<std::unique_ptr<BlobWriter>> start_blob(const UploadOptions&) override {
    static std::atomic<uint64_t> counter{0};
    const fs::path temp =
        dir_ / "blobs" / "sha256" /
        (".new-" + std::to_string(::getpid()) + "-" + std::to_string(counter.fetch_add(1)));
    ::unlink(temp.c_str());  // of a dead process with our number
    ASSIGN_OR_RETURN(UniqueFd fd, open_file(temp, O_WRONLY | O_CREAT | O_EXCL));
    return std::unique_ptr<BlobWriter>(std::make_unique<LayoutWriter>(dir_, temp, std::move(fd)));
  }

  Result<bool> mount_blob(const oci::Descriptor&, const oci::Reference&) override { return false; }

  Result<oci::Descriptor> put_manifest(std::string_view bytes, std::string_view media_type,
                                       const std::string& tag) override {
    ASSIGN_OR_RETURN(oci::Descriptor out, put_blob(*this, bytes, media_type));
    if (tag.empty()) return out;
    oci::Descriptor entry = out;
    entry.annotations[std::string(oci::annotation::kRefName)] = tag;
    RETURN_IF_ERROR(list(entry));
    return out;
  }

  Result<oci::Descriptor> put_referrer(std::string_view bytes,
                                       std::string_view media_type) override {
    ASSIGN_OR_RETURN(oci::Descriptor out, put_blob(*this, bytes, media_type));
    ASSIGN_OR_RETURN(const oci::Manifest manifest,
                     oci::parse_manifest(as_bytes(bytes), media_type));
    if (!manifest.subject) return Error(Code::invalid_argument, "a referrer needs a subject");
    out.artifact_type = std::string(manifest.effective_artifact_type());
    RETURN_IF_ERROR(list(out));
    return out;
  }

  std::string tag() const override { return tag_; }
  std::string describe() const override { return "oci:" + dir_.string() + ":" + tag_; }
  std::shared_ptr<ImageSource> as_source() override {
    return std::make_shared<LayoutSource>(dir_, tag_);
  }

 private:
  // Enters it in index.json, in place of what had its name (or, without one,
  // its digest). A lock file keeps other processes of ours apart.
  Status list(const oci::Descriptor& entry) {
    ASSIGN_OR_RETURN(const UniqueFd lock, open_file(dir_ / ".pagein.lock", O_RDWR | O_CREAT));
    int locked;
    do {
      locked = ::flock(lock.get(), LOCK_EX);
    } while (locked != 0 && errno == EINTR);
    if (locked != 0) return errno_error(errno, "lock " + dir_.string());
    ASSIGN_OR_RETURN(oci::ImageIndex index, load_index(dir_));
    const std::string_view name = entry.annotation(oci::annotation::kRefName);
    std::erase_if(index.manifests, [&](const oci::Descriptor& old) {
      const std::string_view old_name = old.annotation(oci::annotation::kRefName);
      return name == old_name && (!name.empty() || old.digest == entry.digest);
    });
    index.manifests.push_back(entry);
    return replace_file(dir_ / "index.json", as_bytes(oci::serialize(index)));
  }

  const fs::path dir_;
  const std::string tag_;
};

bool is_there(const fs::path& path) {
  struct stat st;
  return ::lstat(path.c_str(), &st) == 0;
}

}  // namespace

Result<std::shared_ptr<ImageSource>> open_layout_source(const fs::path& dir,
                                                        const std::string& name) {
  RETURN_IF_ERROR(check_layout(dir));
  return std::shared_ptr<ImageSource>(std::make_shared<LayoutSource>(dir, name));
}

Result<std::shared_ptr<ImageDestination>> open_layout_destination(const fs::path& dir,
                                                                  const std::string& tag) {
  RETURN_IF_ERROR(make_dirs(dir / "blobs" / "sha256"));
  if (!is_there(dir / "index.json")) {
    RETURN_IF_ERROR(replace_file(dir / "index.json", as_bytes(oci::serialize(oci::ImageIndex()))));
  }
  if (!is_there(dir / "oci-layout")) {
    RETURN_IF_ERROR(replace_file(dir / "oci-layout", as_bytes(kLayoutFile)));
  }
  RETURN_IF_ERROR(check_layout(dir));
  return std::shared_ptr<ImageDestination>(std::make_shared<LayoutDestination>(dir, tag));
}

}  // namespace pagein::registry
