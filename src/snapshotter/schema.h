// The tables of the snapshot database, and what happens to a damaged one.
// Inside this folder only.
#pragma once

#include <filesystem>
#include <memory>

#include "base/result.h"
#include "snapshotter/metadata.h"
#include "snapshotter/sqlite.h"

namespace pagein::snapshotter {

// A checked database with the current schema. One that is damaged is renamed
// to FILE.corrupt-<seconds> (with its -wal and -shm) and an empty one made.
// unsupported: it was written by a newer version; unavailable: another process
// has it open.
Result<std::unique_ptr<Database>> open_or_replace(const std::filesystem::path& file,
                                                  Opened& opened);

}  // namespace pagein::snapshotter
