// Finding out what an engine can do here, by doing it on a tiny image. Internal to
// mount.
#pragma once

#include <span>

#include "mount/engine.h"

namespace pagein::mount {

// Mounts in each of `modes`, reads, fails a read, reads again, answers one short;
// usable if one of them does all it must.
EngineProbe probe_engine(Engine& engine, const std::filesystem::path& scratch,
                         std::span<const DeviceCaching> modes);

}  // namespace pagein::mount
