#include "node/manual_record.h"

#include <nlohmann/json.hpp>

namespace pagein::node {

std::string format_manual(const ManualRecord& record) {
  return nlohmann::json{{"version", 1},
                        {"dir", record.dir},
                        {"location", record.location},
                        {"layers", record.layers}}
             .dump(1, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

Result<ManualRecord> parse_manual(std::string_view text) {
  const auto corrupt = Error(Code::corrupt_input, "record of a mounted image is damaged");
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || json.value("version", nlohmann::json()) != 1) return corrupt;
  const auto dir = json.find("dir");
  const auto location = json.find("location");
  const auto layers = json.find("layers");
  if (dir == json.end() || !dir->is_string() || location == json.end() || !location->is_string() ||
      layers == json.end() || !layers->is_array()) {
    return corrupt;
  }
  ManualRecord record{dir->get<std::string>(), location->get<std::string>(), {}};
  for (const auto& layer : *layers) {
    if (!layer.is_string()) return corrupt;
    record.layers.push_back(layer.get<std::string>());
  }
  return record;
}

}  // namespace pagein::node
