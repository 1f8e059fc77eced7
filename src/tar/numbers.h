// The ways in which tar headers write numbers. Pure; thread-safe. Each returns
// false, and leaves `out` alone, for what is not a number of its kind.
#pragma once

#include <cstdint>
#include <string_view>

#include "base/file.h"

namespace pagein::tar {

// A header field: octal digits between spaces and NULs (empty is 0), or, with
// the top bit set, a big-endian two's complement number (GNU base-256).
bool parse_numeric(ByteView field, int64_t& out);

// Octal alone (the checksum field).
bool parse_octal(ByteView field, int64_t& out);

// Decimal with an optional sign, the whole text.
bool parse_decimal(std::string_view text, int64_t& out);

// A pax time, "[-]seconds[.fraction]"; digits beyond nanoseconds are dropped.
// For negative times nsec still counts upwards from sec.
bool parse_pax_time(std::string_view text, int64_t& sec, uint32_t& nsec);

}  // namespace pagein::tar
