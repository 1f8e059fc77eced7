// containerd's filter expressions for snapshots (containerd filters/parser.go
// holds the grammar):
//
//   filter    = selector *( "," selector )          all must match
//   selector  = path [ ( "==" | "!=" | "~=" ) value ]  without operator: present
//   path      = field *( "." field )                field: word or "quoted"
//   value     = word or "quoted"; with ~= also /quoted/ or |quoted|
//
// Paths: name, parent, kind (view, active, committed), labels.KEY. Regular
// expressions are RE2, as in Go: linear time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "snapshotter/types.h"

namespace pagein::snapshotter {

inline constexpr size_t kMaxFilters = 256;
inline constexpr size_t kMaxFilterBytes = 16 * 1024;  // of one filter
inline constexpr size_t kMaxSelectors = 256;          // in one filter

// Immutable; thread-safe; cheap to copy.
class Filter {
 public:
  // An info matches if any of the filters does; no filter matches all.
  // invalid_argument: bad syntax, a bad regular expression, or over a cap.
  static Result<Filter> parse(const std::vector<std::string>& filters);

  bool matches(const Info& info) const;

 private:
  struct Selector;
  using Conjunction = std::vector<Selector>;
  std::shared_ptr<const std::vector<Conjunction>> any_;
};

}  // namespace pagein::snapshotter
