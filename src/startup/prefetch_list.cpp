#include "startup/prefetch_list.h"

#include "index/file_table.h"

namespace pagein::startup {
namespace {

Error bad_line(size_t number, std::string_view why) {
  return Error(Code::invalid_argument,
               "prefetch list, line " + std::to_string(number) + ": " + std::string(why));
}

}  // namespace

Result<std::vector<ListedPath>> parse_prefetch_list(std::string_view text) {
  if (text.size() > kMaxListBytes) {
    return Error(Code::invalid_argument, "prefetch list: " + std::to_string(text.size()) +
                                             " bytes, " + std::to_string(kMaxListBytes) +
                                             " are allowed");
  }
  std::vector<ListedPath> paths;
  for (size_t number = 1; !text.empty(); ++number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    while (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == std::string_view::npos) continue;
    if (line.front() != '/') return bad_line(number, "not an absolute path (one path a line)");
    if (line.find('\0') != std::string_view::npos) return bad_line(number, "it has a zero byte");
    if (line.size() > index::kMaxPathBytes + 1) return bad_line(number, "a path that is too long");
    const bool directory = line.ends_with('/');
    while (line.size() > 1 && line.ends_with('/')) line.remove_suffix(1);
    paths.push_back({std::string(line), directory});
  }
  return paths;
}

}  // namespace pagein::startup
