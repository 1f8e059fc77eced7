// What is remembered of an image that was mounted by hand: one JSON file for
// each, ROOT/manual/HOLDER.json (docs/formats/store.md).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pagein::node {

struct ManualRecord {
  std::string dir;                  // where it is shown
  std::string location;             // as registry::parse_location takes it
  std::vector<std::string> layers;  // names in the store, lowest first
};

inline constexpr uint64_t kMaxManualFile = 1 << 20;

std::string format_manual(const ManualRecord& record);
// corrupt_input if it is not what format_manual() wrote.
Result<ManualRecord> parse_manual(std::string_view json);

}  // namespace pagein::node
