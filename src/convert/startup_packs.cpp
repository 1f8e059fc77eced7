#include "convert/startup_packs.h"

#include <zstd.h>

#include <algorithm>

#include "convert/index_reader.h"
#include "convert/pack_maker.h"
#include "convert/startup_reads.h"
#include "oci/media_types.h"

namespace pagein::convert {
namespace {

// Two pieces of memory as one stream.
class TwoParts : public ByteStream {
 public:
  TwoParts(ByteView first, ByteView second) : rest_(first), second_(second) {}
  Result<size_t> read(std::span<uint8_t> out) override {
    if (rest_.empty()) rest_ = std::exchange(second_, {});
    const size_t count = std::min(out.size(), rest_.size());
    std::copy_n(rest_.begin(), count, out.begin());
    rest_ = rest_.subspan(count);
    return count;
  }

 private:
  ByteView rest_;
  ByteView second_;
};

Result<startup::PackLocation> put_pack(registry::ImageDestination& destination,
                                       const MadePack& made) {
  Sha256 hash;
  hash.update(made.head);
  hash.update(made.frames);
  oci::Descriptor blob;
  blob.media_type = oci::media_type::kStartupPack;
  blob.digest = oci::Digest(hash.finish());
  blob.size = made.head.size() + made.frames.size();
  TwoParts stream(made.head, made.frames);
  RETURN_IF_ERROR(registry::put_blob(destination, blob, stream));
  return startup::PackLocation{blob.digest, blob.size, made.head.size(),
                               oci::Digest::of(made.head)};
}

std::string settings_of(const StartupReport& report, uint64_t limit) {
  std::string origins;
  for (const std::string& origin : report.origins) {
    origins += (origins.empty() ? "" : ",") + origin;
  }
  return "v1;from=" + origins + ";limit=" + std::to_string(limit) +
         ";level=" + std::to_string(kPackLevel) + ";libzstd=" + ZSTD_versionString();
}

class PlatformPack {
 public:
  PlatformPack(registry::ImageSource& source, const BaseImage& base, size_t platform,
               const PackOptions& options)
      : image_(base.images[platform]), platform_(platform), options_(options) {
    if (options.startup->trace) return;
    attached_ = find_attached_trace(source, image_.descriptor.digest);
    if (!attached_ && base.root.digest != image_.descriptor.digest) {
      attached_ = find_attached_trace(source, base.root.digest);
    }
  }

  // Targets one after the other.
  Status add(const PackTarget& target) {
    StartupReport& report = target.report->platforms[platform_].startup;
    if (made_ && serves(target)) {
      report = made_->report;
    } else {
      made_.reset();
      Status status = make(target);
      if (!status.ok() && status.error().code == Code::cancelled) return status;
      if (!status.ok()) report_.note = status.error().message;
      report = report_;
    }
    if (!made_) return {};
    ASSIGN_OR_RETURN(report.pack, put_pack(*target.destination, *made_));
    return {};
  }

 private:
  Result<std::vector<LayerAccess>> access(const PackTarget& target);
  Status make(const PackTarget& target);
  // The pack that was made for another target is this one's too.
  bool serves(const PackTarget& target) {
    const auto layers = access(target);
    return layers.ok() && have_same_spans(layers_, *layers);
  }

  const PlatformImage& image_;
  const size_t platform_;
  const PackOptions& options_;
  std::optional<startup::Trace> attached_;
  std::vector<LayerAccess> layers_;  // that the pack was made of
  std::optional<MadePack> made_;
  StartupReport report_;
};

Result<std::vector<LayerAccess>> PlatformPack::access(const PackTarget& target) {
  std::vector<LayerAccess> layers;
  const auto blobs = target.destination->as_source()->blobs();
  for (const size_t i : target.report->platforms[platform_].layers) {
    const LayerReport& layer = target.report->layers[i];
    if (layer.outcome == LayerOutcome::left) continue;
    auto index = (*target.indexes)[i];
    if (index == nullptr) {
      ASSIGN_OR_RETURN(index, read_index_head(*blobs, layer.index));
    }
    layers.push_back({std::move(index), target.layers, blobs, layer.index});
  }
  return layers;
}

Status PlatformPack::make(const PackTarget& target) {
  report_ = {};
  ASSIGN_OR_RETURN(layers_, access(target));
  if (layers_.empty()) return {};
  ASSIGN_OR_RETURN(const auto pieces, plan_startup({.image = &image_,
                                                    .layers = &layers_,
                                                    .options = options_.startup,
                                                    .attached = attached_ ? &*attached_ : nullptr},
                                                   &report_));
  if (pieces.empty()) return {};
  uint64_t base_bytes = 0;
  for (const oci::Descriptor& layer : image_.manifest.layers) base_bytes += layer.size;
  const uint64_t limit = std::min({options_.startup->pack_limit, base_bytes / 10, kMaxPackLimit});
  ASSIGN_OR_RETURN(made_,
                   make_pack(layers_, pieces, {.stored_bytes = limit, .stop = options_.stop}));
  StartupReport& made = made_->report;
  made.origins = report_.origins;
  made.unknown_paths = report_.unknown_paths;
  made.unknown_reads = report_.unknown_reads;
  made.settings = settings_of(made, limit);
  report_ = made;
  return {};
}

}  // namespace

Status add_startup_packs(registry::ImageSource& source, const BaseImage& base,
                         const std::vector<PackTarget>& targets, const PackOptions& options) {
  for (size_t i = 0; i < base.images.size(); ++i) {
    PlatformPack pack(source, base, i, options);
    for (const PackTarget& target : targets) RETURN_IF_ERROR(pack.add(target));
  }
  return {};
}

}  // namespace pagein::convert
