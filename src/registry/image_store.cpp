#include "registry/image_store.h"

#include "registry/blob_reader.h"
#include "registry/stores.h"

namespace pagein::registry {

namespace {

constexpr size_t kCopyBuffer = 1 << 20;
constexpr int kCopyAttempts = 3;

// Streams of ours resume below, so a failure here is the destination's (a
// broken upload) or final; starting over is worth a try or two.
Status copy_once(ImageSource& source, ImageDestination& destination,
                 const oci::Descriptor& descriptor) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ByteStream> stream, source.open_blob(descriptor));
  return put_blob(destination, descriptor, *stream);
}

}  // namespace

Result<std::shared_ptr<ImageSource>> open_source(const Location& location,
                                                 const std::shared_ptr<Session>& session) {
  switch (location.kind) {
    case Location::Kind::registry:
      if (session == nullptr) return Error(Code::invalid_argument, "a registry needs a session");
      return make_registry_source(session, location.reference);
    case Location::Kind::oci_layout: return open_layout_source(location.path, location.name);
    case Location::Kind::oci_archive: return open_oci_archive(location.path, location.name);
    case Location::Kind::docker_archive: return open_docker_archive(location.path, location.name);
  }
  return Error(Code::internal, "no such kind of location");
}

Result<std::shared_ptr<ImageDestination>> open_destination(
    const Location& location, const std::shared_ptr<Session>& session) {
  switch (location.kind) {
    case Location::Kind::registry:
      if (session == nullptr) return Error(Code::invalid_argument, "a registry needs a session");
      return make_registry_destination(session, location.reference);
    case Location::Kind::oci_layout: return open_layout_destination(location.path, location.name);
    case Location::Kind::oci_archive:
    case Location::Kind::docker_archive: break;
  }
  return Error(Code::unsupported,
               location.str() + ": archives can only be read; write to oci:DIR instead");
}

Status put_blob(ImageDestination& destination, const oci::Descriptor& descriptor,
                ByteStream& stream) {
  ASSIGN_OR_RETURN(const bool there, destination.has_blob(descriptor));
  if (there) return {};
  ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> writer,
                   destination.start_blob({.size = descriptor.size, .digest = descriptor.digest}));
  Bytes buffer(kCopyBuffer);
  for (;;) {
    ASSIGN_OR_RETURN(const size_t n, stream.read(buffer));
    if (n == 0) break;
    if (writer->bytes_written() + n > descriptor.size) {
      return Error(Code::corrupt_input,
                   "blob " + descriptor.digest.str() + " is longer than its descriptor says");
    }
    RETURN_IF_ERROR(writer->write(std::span(buffer).first(n)));
  }
  const Result<oci::Descriptor> stored = writer->commit(descriptor.digest);
  return stored.ok() ? Status() : Status(stored.error());
}

Result<oci::Descriptor> put_blob(ImageDestination& destination, std::string_view bytes,
                                 std::string_view media_type) {
  oci::Descriptor out;
  out.media_type = std::string(media_type);
  out.digest = oci::Digest::of(as_bytes(bytes));
  out.size = bytes.size();
  ASSIGN_OR_RETURN(const bool there, destination.has_blob(out));
  if (there) return out;
  ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> writer,
                   destination.start_blob({.size = out.size, .digest = out.digest}));
  RETURN_IF_ERROR(writer->write(as_bytes(bytes)));
  ASSIGN_OR_RETURN(const oci::Descriptor stored, writer->commit(out.digest));
  return out;
}

Status copy_blob(ImageSource& source, ImageDestination& destination,
                 const oci::Descriptor& descriptor) {
  ASSIGN_OR_RETURN(const bool there, destination.has_blob(descriptor));
  if (there) return {};
  if (const std::optional<oci::Reference> from = source.repository()) {
    // A mount that is refused for whatever reason leaves the plain way.
    const Result<bool> mounted = destination.mount_blob(descriptor, *from);
    if (mounted.ok() && *mounted) return {};
  }
  for (int attempt = 1;; ++attempt) {
    Status status = copy_once(source, destination, descriptor);
    if (status.ok() || attempt == kCopyAttempts || !is_retryable(status.error())) return status;
  }
}

}  // namespace pagein::registry
