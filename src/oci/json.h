// Reading hostile JSON without exceptions, deep recursion or huge trees, and
// typed access to its fields. Include from .cpp files only: it brings all of
// nlohmann's library.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace pagein::oci {

using Json = nlohmann::json;

struct JsonLimits {
  size_t max_bytes = 4 << 20;
  size_t max_depth = 32;        // of nested arrays and objects
  size_t max_values = 200'000;  // members and elements: a byte of text can cost a hundred in memory
};

// Pure. `what` names the document in errors ("manifest"). corrupt_input: not
// JSON, or too deep or too large a tree; exhausted: longer than max_bytes.
// Where a name occurs twice, the last one counts (as in Go's encoding/json).
Result<Json> parse_json(ByteView text, std::string_view what, const JsonLimits& limits = {});

// Fields of an object. Absent and null are the same: "", empty or nullopt.
// Another type than asked for is corrupt_input. Objects only: others have no
// fields.
const Json* json_find(const Json& object, const char* key);
Result<std::string> json_string(const Json& object, const char* key);
Result<std::optional<uint64_t>> json_unsigned(const Json& object, const char* key);
Result<std::vector<std::string>> json_strings(const Json& object, const char* key);
Result<std::map<std::string, std::string>> json_string_map(const Json& object, const char* key);
// The names of an object's members, as Docker writes sets ({"80/tcp": {}}).
Result<std::vector<std::string>> json_names(const Json& object, const char* key);

}  // namespace pagein::oci
