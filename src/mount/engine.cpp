#include "mount/engine.h"

#include <iterator>

namespace pagein::mount {
namespace {

constexpr std::string_view kKindNames[] = {"erofs", "erofs-loop", "erofs-loop-flat", "fuse"};

}  // namespace

std::string_view engine_kind_name(EngineKind kind) { return kKindNames[static_cast<size_t>(kind)]; }

std::optional<EngineKind> parse_engine_kind(std::string_view name) {
  for (size_t i = 0; i < std::size(kKindNames); ++i) {
    if (kKindNames[i] == name) return static_cast<EngineKind>(i);
  }
  return std::nullopt;
}

}  // namespace pagein::mount
