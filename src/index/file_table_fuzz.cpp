// The files section before compression: the first bytes are the number of
// entries, the rest the section. What parses keeps its invariants, and is
// written back to something that parses to the same.

#include "base/endian.h"
#include "index/file_table_format.h"
#include "index/test_invariants.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;         // NOLINT
  using namespace pagein::index;  // NOLINT
  if (size < 2) return 0;
  const FileTableLimits limits{.entries = load_le<uint16_t>(data), .tar_size = 1 << 30};
  const Result<FileTable> table = parse_file_table({data + 2, size - 2}, limits);
  if (!table.ok()) return 0;
  require_invariants(*table);
  const Bytes written = write_file_table(*table);
  const Result<FileTable> again = parse_file_table(written, limits);
  require(again.ok() && write_file_table(*again) == written, "round trip");
  if (const Result<DataLayout> layout = DataLayout::build(*table); layout.ok()) {
    require_layout(*table, *layout);
    for (uint64_t at = 0; at < layout->data_size(); at += layout->data_size() / 7 + 1) {
      if (const auto range = layout->tar_range(at, 5000)) {
        require(range->begin < range->end && range->end <= limits.tar_size, "tar range");
        require(layout->data_range(range->begin, range->end).has_value(), "data range");
      }
    }
  }
  return 0;
}
