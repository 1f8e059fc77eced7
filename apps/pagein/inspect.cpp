// pagein inspect, pagein check
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "apps/pagein/commands.h"
#include "convert/check.h"
#include "convert/inspect.h"
#include "registry/image_store.h"

namespace pagein::cli {
namespace {

using nlohmann::json;

struct Flags {
  std::string first;
  std::string second;
  std::vector<std::string> platforms;
  bool json = false;
  RegistryFlags registry;
};

Result<std::shared_ptr<registry::ImageSource>> open(
    const std::string& text, const std::shared_ptr<registry::Session>& session) {
  ASSIGN_OR_RETURN(const auto location, registry::parse_location(text));
  return registry::open_source(location, session);
}

json layer_json(const convert::InspectedLayer& layer) {
  json out = {{"digest", layer.descriptor.digest.str()},
              {"bytes", layer.descriptor.size},
              {"media_type", layer.descriptor.media_type},
              {"diff_id", layer.diff_id.str()}};
  if (!layer.index) return out;
  out["index"] = {{"digest", layer.index->digest.str()},
                  {"bytes", layer.index->size},
                  {"head_bytes", layer.index->head_size},
                  {"files", layer.files},
                  {"spans", layer.spans}};
  out["tar_bytes"] = layer.tar_size;
  if (!layer.problem.empty()) out["problem"] = layer.problem;
  return out;
}

json pack_json(const convert::InspectedPack& pack) {
  json out = {
      {"digest", pack.location.digest.str()},  {"bytes", pack.location.size},
      {"head_bytes", pack.location.head_size}, {"settings", pack.settings},
      {"pieces", pack.contents.pieces},        {"stored_pieces", pack.contents.stored_pieces},
      {"tar_bytes", pack.contents.tar_bytes},  {"stored_tar_bytes", pack.contents.stored_tar_bytes},
      {"files", pack.contents.files}};
  if (!pack.problem.empty()) out["problem"] = pack.problem;
  return out;
}

void print_json(const convert::InspectReport& report) {
  json images = json::array();
  for (const auto& image : report.images) {
    json layers = json::array();
    for (const auto& layer : image.layers) layers.push_back(layer_json(layer));
    images.push_back({{"platform", image.platform.str()},
                      {"manifest", image.manifest.str()},
                      {"config", image.config.str()},
                      {"layers", std::move(layers)}});
    if (image.pack) images.back()["startup_pack"] = pack_json(*image.pack);
  }
  std::printf("%s\n", json{{"digest", report.root.digest.str()},
                           {"media_type", report.root.media_type},
                           {"images", std::move(images)}}
                          .dump(2, ' ', false, json::error_handler_t::replace)
                          .c_str());
}

void print_pack(const convert::InspectedPack& pack, uint64_t image_bytes) {
  const double share = 100.0 * static_cast<double>(pack.location.size) /
                       static_cast<double>(std::max<uint64_t>(1, image_bytes));
  std::printf("  startup pack %s (%.2f%%)", human_bytes(pack.location.size).c_str(), share);
  if (!pack.problem.empty()) {
    std::printf(": %s\n", pack.problem.c_str());
    return;
  }
  std::printf(": %zu of %zu pieces, %s of %s of tar, %zu files\n", pack.contents.stored_pieces,
              pack.contents.pieces, human_bytes(pack.contents.stored_tar_bytes).c_str(),
              human_bytes(pack.contents.tar_bytes).c_str(), pack.contents.files);
}

void print_image(const convert::InspectedImage& image) {
  uint64_t bytes = 0;
  uint64_t indexes = 0;
  uint64_t tar = 0;
  size_t files = 0;
  size_t indexed = 0;
  for (const auto& layer : image.layers) {
    bytes += layer.descriptor.size;
    tar += layer.tar_size;
    files += layer.files;
    if (layer.index) {
      indexes += layer.index->size;
      ++indexed;
    }
  }
  std::printf("%s  manifest %s\n", image.platform.str().c_str(), image.manifest.str().c_str());
  std::printf("  %-12s  %10s  %10s  %10s  %6s  %8s  %7s\n", "LAYER", "SIZE", "TAR", "INDEX",
              "SHARE", "FILES", "SPANS");
  for (const auto& layer : image.layers) {
    const std::string name = layer.descriptor.digest.hex().substr(0, 12);
    const std::string size = human_bytes(layer.descriptor.size);
    if (!layer.index) {
      std::printf("  %-12s  %10s  no index: loaded the ordinary way\n", name.c_str(), size.c_str());
      continue;
    }
    const double share = 100.0 * static_cast<double>(layer.index->size) /
                         static_cast<double>(std::max<uint64_t>(1, layer.descriptor.size));
    std::printf("  %-12s  %10s  %10s  %10s  %5.2f%%  %8zu  %7zu%s%s\n", name.c_str(), size.c_str(),
                human_bytes(layer.tar_size).c_str(), human_bytes(layer.index->size).c_str(), share,
                layer.files, layer.spans, layer.problem.empty() ? "" : "  ", layer.problem.c_str());
  }
  std::printf("  %zu layers, %zu indexed; %s, indexes %s (%.2f%%); %s of tar, %zu files\n",
              image.layers.size(), indexed, human_bytes(bytes).c_str(),
              human_bytes(indexes).c_str(),
              bytes == 0 ? 0 : 100.0 * static_cast<double>(indexes) / static_cast<double>(bytes),
              human_bytes(tar).c_str(), files);
  if (image.pack) print_pack(*image.pack, bytes);
}

Result<convert::InspectReport> inspect(const Flags& flags) {
  ASSIGN_OR_RETURN(const auto session, flags.registry.open({flags.first}));
  ASSIGN_OR_RETURN(const auto source, open(flags.first, session));
  std::vector<oci::Platform> platforms;
  for (const std::string& text : flags.platforms) {
    ASSIGN_OR_RETURN(oci::Platform platform, oci::Platform::parse(text));
    platforms.push_back(std::move(platform));
  }
  return convert::inspect_image(*source, platforms);
}

int run_inspect(const Flags& flags) {
  const auto report = inspect(flags);
  if (!report.ok()) return fail(report.error().with_context("inspect " + flags.first));
  if (flags.json) {
    print_json(*report);
    return kOk;
  }
  std::printf("%s\n", report->root.digest.str().c_str());
  for (const auto& image : report->images) print_image(image);
  return kOk;
}

Result<convert::CheckReport> check(const Flags& flags) {
  ASSIGN_OR_RETURN(const auto session, flags.registry.open({flags.first, flags.second}));
  ASSIGN_OR_RETURN(const auto base, open(flags.first, session));
  ASSIGN_OR_RETURN(const auto accelerated, open(flags.second, session));
  return convert::check_image(*base, *accelerated, [](const std::string& layer) {
    if (::isatty(STDERR_FILENO) == 1) std::fprintf(stderr, "checking %s\n", layer.c_str());
  });
}

int run_check(const Flags& flags) {
  const auto report = check(flags);
  if (!report.ok()) {
    return fail(report.error().with_context("check " + flags.first + " against " + flags.second));
  }
  const bool same = report->differences.empty();
  if (flags.json) {
    std::printf("%s\n", json{{"same", same},
                             {"images", report->images},
                             {"layers", report->layers},
                             {"ordinary_layers", report->ordinary},
                             {"files", report->files},
                             {"tar_bytes", report->tar_bytes},
                             {"startup_packs", report->packs},
                             {"startup_pieces", report->pack_pieces},
                             {"differences", report->differences}}
                            .dump(2, ' ', false, json::error_handler_t::replace)
                            .c_str());
  } else {
    for (const std::string& difference : report->differences) {
      std::printf("DIFFERS %s\n", difference.c_str());
    }
    std::printf(
        "%s: %zu image(s), %zu layers read span by span, %zu ordinary; %llu files, %s of tar; "
        "%zu startup pack(s), %zu pieces\n",
        same ? "the same" : "NOT the same", report->images, report->layers, report->ordinary,
        static_cast<unsigned long long>(report->files), human_bytes(report->tar_bytes).c_str(),
        report->packs, report->pack_pieces);
  }
  return same ? kOk : kDiffers;
}

}  // namespace

void add_inspect(CLI::App& app, Run* run) {
  CLI::App* command =
      app.add_subcommand("inspect", "Show an image's layers, and their indexes if it has them");
  auto flags = std::make_shared<Flags>();
  command->add_option("LOCATION", flags->first, "The image")->required();
  command
      ->add_option("--platform", flags->platforms,
                   "Only this one, as os/arch; may be repeated (default: all)")
      ->allow_extra_args(false);
  command->add_flag("--json", flags->json, "Print JSON");
  command->footer(kLocationHelp);
  flags->registry.add_to(command);
  command->callback([flags, run] { *run = [flags] { return run_inspect(*flags); }; });
}

void add_check(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "check", "Prove that an accelerated image yields its base image's files, byte for byte");
  auto flags = std::make_shared<Flags>();
  command->add_option("BASE", flags->first, "The base image's LOCATION")->required();
  command->add_option("ACCELERATED", flags->second, "The accelerated image's LOCATION")->required();
  command->add_flag("--json", flags->json, "Print JSON");
  command->footer(std::string(kLocationHelp) +
                  "\nExit code 0: the same; 3: they differ; 1: it could not be found out.");
  flags->registry.add_to(command);
  command->callback([flags, run] { *run = [flags] { return run_check(*flags); }; });
}

}  // namespace pagein::cli
