#include "mount/metadata_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/file.h"

namespace pagein::mount {

Result<std::shared_ptr<const MetadataFile>> MetadataFile::open(const std::filesystem::path& path,
                                                               size_t devices) {
  ASSIGN_OR_RETURN(UniqueFd fd, open_file(path, O_RDONLY));
  struct stat st;
  if (::fstat(fd.get(), &st) != 0) return errno_error(errno, "stat " + path.string());
  const auto size = static_cast<size_t>(st.st_size);
  if (size == 0) return Error(Code::corrupt_input, path.string() + " is empty");
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  if (map == MAP_FAILED) return errno_error(errno, "map " + path.string());
  const ByteView bytes(static_cast<const uint8_t*>(map), size);
  Result<erofs::Reader> reader = erofs::Reader::open(bytes);
  if (reader.ok() && reader->devices().size() != devices) {
    reader =
        Error(Code::invalid_argument, "the image has " + std::to_string(reader->devices().size()) +
                                          " devices, not " + std::to_string(devices));
  }
  if (!reader.ok()) {
    ::munmap(map, size);
    return reader.error().with_context(path.string());
  }
  return std::shared_ptr<const MetadataFile>(new MetadataFile(bytes, *std::move(reader)));
}

MetadataFile::~MetadataFile() { ::munmap(const_cast<uint8_t*>(bytes_.data()), bytes_.size()); }

}  // namespace pagein::mount
