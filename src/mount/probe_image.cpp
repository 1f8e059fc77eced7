#include "mount/probe_image.h"

#include <memory>

#include "erofs/writer.h"
#include "index/data_layout.h"
#include "index/file_table_builder.h"

namespace pagein::mount {

tar::Entry probe_file(std::string path, uint64_t size) {
  tar::Entry entry;
  entry.path = std::move(path);
  entry.mode = 0644;
  entry.size = size;
  return entry;
}

Result<Bytes> probe_image(std::vector<std::vector<tar::Entry>> layers,
                          const tree::MergeOptions& options) {
  std::vector<tree::Layer> tables;
  for (std::vector<tar::Entry>& entries : layers) {
    index::FileTableBuilder builder;
    uint64_t offset = 0;
    for (tar::Entry& entry : entries) {
      offset += 512;  // the entry's header
      entry.content_offset = offset;
      if (!entry.sparse) entry.content_length = entry.size;
      offset += (entry.content_length + 511) / 512 * 512;
      RETURN_IF_ERROR(builder.add(entry));
    }
    auto files = std::make_shared<const index::FileTable>(builder.finish());
    ASSIGN_OR_RETURN(index::DataLayout layout, index::DataLayout::build(*files));
    tables.push_back({files, std::make_shared<const index::DataLayout>(std::move(layout))});
  }
  ASSIGN_OR_RETURN(const tree::Tree tree, tree::merge(std::move(tables), options));
  return erofs::write_metadata(tree, erofs::options_for(tree));
}

}  // namespace pagein::mount
