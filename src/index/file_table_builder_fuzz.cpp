// Two ways into the builder: a tar (if it reads as one), and entries made up
// from the bytes, which need not come from any tar. Whatever is built keeps
// its invariants and survives being written and parsed.

#include <algorithm>

#include "index/file_table_builder.h"
#include "index/file_table_format.h"
#include "index/test_invariants.h"

namespace {

using namespace pagein;         // NOLINT
using namespace pagein::index;  // NOLINT

// Takes numbers and strings off the input; zeros when it is used up.
class Source {
 public:
  explicit Source(ByteView bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  uint8_t u8() {
    if (bytes_.empty()) return 0;
    const uint8_t value = bytes_[0];
    bytes_ = bytes_.subspan(1);
    return value;
  }
  // Small mostly, any 64-bit number sometimes.
  uint64_t number() {
    const uint8_t kind = u8();
    if (kind < 0xf0) return kind * uint64_t{256};
    uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | u8();
    return value;
  }
  std::string text() {
    std::string out;
    const size_t length = u8();
    while (out.size() < length && !empty()) {
      // Few different names, so that paths meet.
      const uint8_t byte = u8();
      static constexpr std::string_view kAlphabet = "ab/.wh\\";
      out += byte < 200 ? kAlphabet[byte % kAlphabet.size()] : static_cast<char>(byte);
      if (byte >= 190 && byte < 200) out += ".wh.";
    }
    return out;
  }

 private:
  ByteView bytes_;
};

tar::Entry make_entry(Source& source) {
  tar::Entry entry;
  entry.type = static_cast<tar::EntryType>(source.u8() % 7);
  entry.path = source.text();
  entry.link_target = source.text();
  entry.mode = static_cast<uint16_t>(source.number());
  entry.uid = static_cast<int64_t>(source.number());
  entry.mtime_sec = static_cast<int64_t>(source.number());
  entry.mtime_nsec = static_cast<uint32_t>(source.number());
  entry.dev_minor = static_cast<int64_t>(source.number());
  entry.size = entry.content_length = source.number();
  entry.content_offset = source.number();
  if (source.u8() % 4 == 0) {
    entry.sparse = true;
    entry.content_length = 0;
    for (int count = source.u8() % 8; count > 0; --count) {
      entry.segments.push_back({source.number(), source.number()});
      entry.content_length += entry.segments.back().length;
    }
  }
  for (int count = source.u8() % 3; count > 0; --count) {
    entry.xattrs.push_back({source.text(), source.text()});
  }
  return entry;
}

void check(FileTableBuilder& builder) {
  const FileTable table = builder.finish();
  require_invariants(table);
  const Bytes written = write_file_table(table);
  const Result<FileTable> again =
      parse_file_table(written, {.entries = table.size(), .tar_size = INT64_MAX});
  require(again.ok() && write_file_table(*again) == written, "round trip");
  if (const Result<DataLayout> layout = DataLayout::build(table); layout.ok()) {
    require_layout(table, *layout);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  {
    FileTableBuilder builder;
    tar::StreamReader reader(builder);
    (void)reader.feed({data, size}).ok();
    check(builder);
  }
  FileTableBuilder builder;
  Source source({data, size});
  while (!source.empty()) (void)builder.add(make_entry(source)).ok();
  check(builder);
  return 0;
}
