#include "index/path.h"

#include "index/file_table.h"

namespace pagein::index {

namespace {

Error bad_path(std::string_view path, std::string_view why) {
  return Error(Code::corrupt_input,
               "path \"" + std::string(path.substr(0, 200)) + "\": " + std::string(why));
}

}  // namespace

Status normalise_path(std::string_view path, std::string& out) {
  out.clear();
  if (path.find('\0') != std::string_view::npos) return bad_path(path, "holds a NUL");
  size_t begin = 0;
  while (begin < path.size()) {
    const size_t slash = std::min(path.find('/', begin), path.size());
    const std::string_view component = path.substr(begin, slash - begin);
    begin = slash + 1;
    if (component.empty() || component == ".") continue;
    if (component == "..") {
      const size_t last = out.rfind('/');
      out.resize(last == std::string::npos ? 0 : last);
      continue;
    }
    if (component.size() > kMaxNameBytes) return bad_path(path, "a name exceeds 255 bytes");
    if (!out.empty()) out += '/';
    out += component;
  }
  if (out.size() > kMaxPathBytes) return bad_path(path, "exceeds 4095 bytes");
  return {};
}

bool is_valid_name(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNameBytes && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

bool is_normal_path(std::string_view path) {
  if (path.size() > kMaxPathBytes) return false;
  size_t begin = 0;
  while (true) {
    const size_t slash = path.find('/', begin);
    if (!is_valid_name(path.substr(begin, slash - begin))) return false;
    if (slash == std::string_view::npos) return true;
    begin = slash + 1;
  }
}

}  // namespace pagein::index
