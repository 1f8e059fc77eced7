#include "convert/index_reader.h"

#include "registry/read_range.h"

namespace pagein::convert {

Result<std::shared_ptr<const index::LayerIndex>> read_index_head(
    registry::BlobSource& source, const index::IndexLocation& location) {
  registry::BlobRead read;
  read.digest = location.digest;
  read.blob_size = location.size;
  read.length = location.head_size;
  ASSIGN_OR_RETURN(const Bytes head, registry::PendingRead(source, read).wait());
  if (oci::Digest::of(head) != location.head_digest) {
    return Error(Code::corrupt_input, "the head of index " + location.digest.str() +
                                          " does not have the digest that the manifest gives");
  }
  return index::parse_head(head);
}

}  // namespace pagein::convert
