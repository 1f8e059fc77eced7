#include "store/layer_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <nlohmann/json.hpp>

#include "base/file.h"

namespace pagein::store {

namespace {
constexpr int kStateVersion = 1;
}

Result<std::string> read_small_file(const std::filesystem::path& path, uint64_t longest) {
  Result<std::string> text = read_file(path, longest);
  // With an errno it is the process that has run out of something.
  if (!text.ok() && text.error().code == Code::exhausted && text.error().sys_errno == 0) {
    return Error(Code::corrupt_input, text.error().message);
  }
  return text;
}

void note_use(const std::filesystem::path& dir) {
  ::utimensat(AT_FDCWD, (dir / kHeadFile).c_str(), nullptr, 0);
}

int64_t last_use(const std::filesystem::path& dir) {
  struct stat st;
  if (::stat((dir / kHeadFile).c_str(), &st) != 0) return 0;
  return st.st_mtim.tv_sec * 1'000'000'000LL + st.st_mtim.tv_nsec;
}

std::string format_state(const LayerState& state) {
  nlohmann::json json;
  json["version"] = kStateVersion;
  json["complete"] = state.complete;
  if (!state.quarantined.empty()) json["quarantined"] = state.quarantined;
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Result<LayerState> parse_state(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto corrupt = [](std::string_view why) {
    return Error(Code::corrupt_input, "layer state: " + std::string(why));
  };
  if (!json.is_object()) return corrupt("not a JSON object");
  const auto version = json.find("version");
  if (version == json.end() || !version->is_number_integer() || *version != kStateVersion) {
    return corrupt("unknown version");
  }
  LayerState state;
  const auto complete = json.find("complete");
  if (complete == json.end() || !complete->is_boolean()) return corrupt("\"complete\" missing");
  state.complete = complete->get<bool>();
  if (const auto reason = json.find("quarantined"); reason != json.end()) {
    if (!reason->is_string()) return corrupt("\"quarantined\" is not a text");
    state.quarantined = reason->get<std::string>();
  }
  return state;
}

}  // namespace pagein::store
