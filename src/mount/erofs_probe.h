// Finding out what EROFS and FUSE can do here, by doing it. Internal to mount.
#pragma once

#include "mount/engine.h"

namespace pagein::mount {

EngineProbe probe_erofs(Engine& engine, FuseServer& server, const std::filesystem::path& scratch);

}  // namespace pagein::mount
