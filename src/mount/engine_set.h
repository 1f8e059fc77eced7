// All engines, one of them chosen by trying what works on this machine.
#pragma once

#include <array>

#include "mount/engine.h"

namespace pagein::mount {

// `mount.engine` in the configuration.
enum class EngineChoice { automatic, erofs, erofs_loop, fuse };
// "auto", "erofs", "erofs-loop", "fuse".
std::optional<EngineChoice> parse_engine_choice(std::string_view name);

// Mounts with the chosen engine; continues what any of them has mounted, so that
// a change of the setting or of the kernel breaks no mount. Thread-safe after
// probe(), which must be called first.
class EngineSet : public Engine {
 public:
  EngineSet(FuseServer& server, EngineChoice choice);

  // Of the engine chosen; that of the choice, or "auto", where none works.
  std::string_view name() const override;
  bool serves_always() const override;

  // unsupported where no engine was found to work.
  Result<std::unique_ptr<ImageMount>> mount(ImageSpec spec) override;
  Result<std::unique_ptr<ImageMount>> adopt(ImageSpec spec, UniqueFd fuse_fd,
                                            const ImageMountState& state) override;
  Result<std::unique_ptr<ImageMount>> adopt_unmounted(ImageSpec spec, UniqueFd fuse_fd,
                                                      const ImageMountState& state) override;

  // Probes every engine (reports()) and chooses the first that is usable in the
  // order erofs, erofs-loop, fuse, or the one that the configuration names. The
  // result is that engine's; of all, where none is.
  EngineProbe probe(const std::filesystem::path& scratch) override;

  std::vector<EngineProbe> reports() const override { return reports_; }

 private:
  Engine& engine_of(EngineKind kind) const;

  const EngineChoice choice_;
  const std::array<std::unique_ptr<Engine>, 3> engines_;  // best first
  std::vector<EngineProbe> reports_;
  Engine* chosen_ = nullptr;
};

}  // namespace pagein::mount
