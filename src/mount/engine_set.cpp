#include "mount/engine_set.h"

namespace pagein::mount {
namespace {

constexpr std::string_view kChoiceNames[] = {"auto", "erofs", "erofs-loop", "fuse"};

}  // namespace

std::optional<EngineChoice> parse_engine_choice(std::string_view name) {
  for (size_t i = 0; i < std::size(kChoiceNames); ++i) {
    if (kChoiceNames[i] == name) return static_cast<EngineChoice>(i);
  }
  return std::nullopt;
}

EngineSet::EngineSet(FuseServer& server, EngineChoice choice)
    : choice_(choice),
      engines_{make_erofs_engine(server), make_erofs_loop_engine(server),
               make_fuse_engine(server)} {}

std::string_view EngineSet::name() const {
  return chosen_ != nullptr ? chosen_->name() : kChoiceNames[static_cast<size_t>(choice_)];
}

bool EngineSet::serves_always() const { return chosen_ != nullptr && chosen_->serves_always(); }

Engine& EngineSet::engine_of(EngineKind kind) const {
  switch (kind) {
    case EngineKind::erofs: return *engines_[0];
    case EngineKind::erofs_loop:
    case EngineKind::erofs_flat: return *engines_[1];
    case EngineKind::fuse: break;
  }
  return *engines_[2];
}

Result<std::unique_ptr<ImageMount>> EngineSet::mount(ImageSpec spec) {
  if (chosen_ == nullptr) {
    return Error(Code::unsupported, "no mount engine works here (pagein doctor says why)");
  }
  return chosen_->mount(std::move(spec));
}

Result<std::unique_ptr<ImageMount>> EngineSet::adopt(ImageSpec spec, UniqueFd fuse_fd,
                                                     const ImageMountState& state) {
  return engine_of(state.engine).adopt(std::move(spec), std::move(fuse_fd), state);
}

Result<std::unique_ptr<ImageMount>> EngineSet::adopt_unmounted(ImageSpec spec, UniqueFd fuse_fd,
                                                               const ImageMountState& state) {
  return engine_of(state.engine).adopt_unmounted(std::move(spec), std::move(fuse_fd), state);
}

EngineProbe EngineSet::probe(const std::filesystem::path& scratch) {
  reports_.clear();
  chosen_ = nullptr;
  EngineProbe none;
  none.engine = name();
  for (const auto& engine : engines_) {
    const std::string engine_name(engine->name());
    reports_.push_back(engine->probe(scratch / engine_name));
    const EngineProbe& report = reports_.back();
    const bool wanted = choice_ == EngineChoice::automatic ||
                        engine_name == kChoiceNames[static_cast<size_t>(choice_)];
    if (wanted && report.usable && chosen_ == nullptr) chosen_ = engine.get();
    if (!wanted || report.usable) continue;
    for (const std::string& finding : report.findings) {
      none.findings.push_back(engine_name + ": " + finding);
    }
  }
  for (const EngineProbe& report : reports_) {
    if (chosen_ != nullptr && report.engine == chosen_->name()) return report;
  }
  return none;
}

}  // namespace pagein::mount
