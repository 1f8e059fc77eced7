// Where two file tables differ.
#pragma once

#include <string>

#include "index/file_table.h"

namespace pagein::convert {

// The first difference, for a person: path and what differs; "" if there is
// none. Pure; thread-safe.
std::string first_difference(const index::FileTable& expected, const index::FileTable& found);

}  // namespace pagein::convert
