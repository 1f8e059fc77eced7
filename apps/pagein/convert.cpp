// pagein convert
#include <signal.h>

#include <nlohmann/json.hpp>

#include "apps/pagein/commands.h"
#include "apps/pagein/progress.h"
#include "convert/convert.h"
#include "registry/image_store.h"

namespace pagein::cli {
namespace {

std::atomic<bool> g_stop{false};

struct Flags {
  std::string source;
  std::string destination;
  std::string mode = "index";
  std::vector<std::string> platforms;
  uint64_t spacing_kib = 256;
  size_t jobs = 2;
  bool json = false;
  bool no_cache = false;
  bool no_referrer = false;
  RegistryFlags registry;
};

// "repo:tag" -> "repo:tag_accelerated"; the same for a layout's tag.
Result<std::string> default_destination(const std::string& source) {
  ASSIGN_OR_RETURN(registry::Location location, registry::parse_location(source));
  switch (location.kind) {
    case registry::Location::Kind::registry: {
      const oci::Reference& reference = location.reference;
      if (reference.digest() && !reference.tag()) {
        return Error(Code::invalid_argument,
                     source + " has no tag to derive the destination's from: give DESTINATION");
      }
      ASSIGN_OR_RETURN(const oci::Reference tagged,
                       reference.with_tag(reference.tag().value_or("latest") + "_accelerated"));
      return tagged.str();
    }
    case registry::Location::Kind::oci_layout:
      return "oci:" + location.path.native() + ":" +
             (location.name.empty() ? "latest" : location.name) + "_accelerated";
    default:
      return Error(Code::invalid_argument,
                   "an archive cannot be written to: give DESTINATION, for instance oci:DIR:TAG");
  }
}

class Observer : public convert::ConvertObserver {
 public:
  explicit Observer(Progress& progress) : progress_(progress) {}
  void on_layers(const std::vector<oci::Descriptor>& layers) override {
    std::vector<std::pair<std::string, uint64_t>> parts;
    for (const auto& layer : layers) parts.emplace_back(layer.digest.hex().substr(0, 12), layer.size);
    progress_.begin(std::move(parts));
  }
  void on_progress(size_t layer, uint64_t bytes) override { progress_.update(layer, bytes); }
  void on_layer_done(size_t layer, const std::string& outcome) override {
    progress_.done(layer, outcome);
  }

 private:
  Progress& progress_;
};

const char* outcome_name(convert::LayerOutcome outcome) {
  switch (outcome) {
    case convert::LayerOutcome::indexed: return "indexed";
    case convert::LayerOutcome::reused: return "reused";
    case convert::LayerOutcome::left: return "left";
  }
  return "";
}

struct Totals {
  uint64_t layers = 0;
  uint64_t indexes = 0;
  size_t left = 0;
  double share() const {
    return layers == 0 ? 0 : 100.0 * static_cast<double>(indexes) / static_cast<double>(layers);
  }
};

Totals totals_of(const convert::ConvertReport& report) {
  Totals totals;
  for (const auto& layer : report.layers) {
    totals.layers += layer.layer.size;
    totals.indexes += layer.index.size;
    if (layer.outcome == convert::LayerOutcome::left) ++totals.left;
  }
  return totals;
}

void print_json(const convert::ConvertReport& report, const std::string& destination,
                double seconds) {
  using nlohmann::json;
  json layers = json::array();
  for (const auto& layer : report.layers) {
    json item = {{"digest", layer.layer.digest.str()},
                 {"bytes", layer.layer.size},
                 {"outcome", outcome_name(layer.outcome)}};
    if (layer.outcome == convert::LayerOutcome::left) {
      item["reason"] = layer.reason;
    } else {
      item["index"] = {{"digest", layer.index.digest.str()},
                       {"bytes", layer.index.size},
                       {"head_bytes", layer.index.head_size}};
    }
    if (layer.tar_size > 0) item["tar_bytes"] = layer.tar_size;
    layers.push_back(std::move(item));
  }
  json platforms = json::array();
  for (const auto& platform : report.platforms) {
    platforms.push_back({{"platform", platform.platform.str()},
                         {"manifest", platform.manifest.str()},
                         {"layers", platform.layers}});
  }
  const Totals totals = totals_of(report);
  const json out = {{"base", report.base.digest.str()},
                    {"destination", destination},
                    {"digest", report.accelerated.digest.str()},
                    {"seconds", seconds},
                    {"layer_bytes", totals.layers},
                    {"index_bytes", totals.indexes},
                    {"index_percent", totals.share()},
                    {"platforms", std::move(platforms)},
                    {"layers", std::move(layers)}};
  std::printf("%s\n", out.dump(2).c_str());
}

void print_summary(const convert::ConvertReport& report, const std::string& destination,
                   double seconds) {
  const Totals totals = totals_of(report);
  std::printf("%s\n%s\n", destination.c_str(), report.accelerated.digest.str().c_str());
  std::printf("%zu layers, %s; indexes %s (%.2f%%); %.1f s\n", report.layers.size(),
              human_bytes(totals.layers).c_str(), human_bytes(totals.indexes).c_str(),
              totals.share(), seconds);
  if (totals.left > 0) {
    std::printf("%zu of them could not be indexed and will be loaded the ordinary way\n",
                totals.left);
  }
}

std::filesystem::path cache_dir() {
  if (const char* cache = std::getenv("XDG_CACHE_HOME"); cache != nullptr && *cache == '/') {
    return std::filesystem::path(cache) / "pagein" / "indexes";
  }
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/') {
    return std::filesystem::path(home) / ".cache" / "pagein" / "indexes";
  }
  return {};
}

Result<convert::ConvertReport> convert_image(const Flags& flags, const std::string& destination,
                                             Observer& observer) {
  ASSIGN_OR_RETURN(const auto session, flags.registry.open({flags.source, destination}));
  ASSIGN_OR_RETURN(const auto source_location, registry::parse_location(flags.source));
  ASSIGN_OR_RETURN(const auto destination_location, registry::parse_location(destination));
  ASSIGN_OR_RETURN(const auto source, registry::open_source(source_location, session));
  ASSIGN_OR_RETURN(const auto target, registry::open_destination(destination_location, session));
  convert::ConvertOptions options;
  for (const std::string& text : flags.platforms) {
    ASSIGN_OR_RETURN(oci::Platform platform, oci::Platform::parse(text));
    options.platforms.push_back(std::move(platform));
  }
  options.spacing = flags.spacing_kib << 10;
  options.parallel_layers = flags.jobs;
  if (!flags.no_cache) options.cache = cache_dir();
  if (flags.no_referrer) options.referrer = convert::ConvertOptions::Referrer::skip;
  options.stop = &g_stop;
  return convert::convert_to_index_only(*source, *target, options, observer);
}

int run_convert(const Flags& flags) {
  std::string destination = flags.destination;
  if (destination.empty()) {
    auto derived = default_destination(flags.source);
    if (!derived.ok()) return fail(derived.error());
    destination = *derived;
  }
  ::signal(SIGINT, [](int) { g_stop = true; });
  ::signal(SIGTERM, [](int) { g_stop = true; });
  const auto begin = std::chrono::steady_clock::now();
  Result<convert::ConvertReport> report = [&] {
    Progress progress(Progress::Style::automatic);
    Observer observer(progress);
    return convert_image(flags, destination, observer);
  }();
  if (!report.ok()) {
    if (g_stop) {
      std::fprintf(stderr, "pagein: stopped; nothing was published, the same command goes on\n");
      return kInterrupted;
    }
    return fail(report.error().with_context("convert " + flags.source));
  }
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  if (flags.json) print_json(*report, destination, seconds);
  else print_summary(*report, destination, seconds);
  return kOk;
}

}  // namespace

void add_convert(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "convert", "Make an accelerated image: the same image, and an index that lets a node read "
                 "any part of it at once");
  auto flags = std::make_shared<Flags>();
  command->add_option("SOURCE", flags->source, "The base image's LOCATION")->required();
  command->add_option("DESTINATION", flags->destination,
                      "Where to write (default: SOURCE's tag with _accelerated)");
  command->add_option("--mode", flags->mode, "index: layers stay as they are, an index is added")
      ->check(CLI::IsMember({"index"}))
      ->capture_default_str();
  command
      ->add_option("--platform", flags->platforms,
                   "Only this one, as os/arch; may be repeated (default: all)")
      ->allow_extra_args(false);
  command->add_option("--spacing", flags->spacing_kib,
                      "KiB of tar between places where decoding can start: less makes reads finer "
                      "and the index larger")
      ->check(CLI::Range(64, 16384))
      ->capture_default_str();
  command->add_option("-j,--jobs", flags->jobs, "Layers at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print a summary as JSON");
  command->add_flag("--no-cache", flags->no_cache,
                    "Neither use nor keep indexes in ~/.cache/pagein");
  command->add_flag("--no-referrer", flags->no_referrer,
                    "Do not tell the base image's referrers of the accelerated image");
  flags->registry.add_to(command);
  command->footer(kLocationHelp);
  command->callback([flags, run] { *run = [flags] { return run_convert(*flags); }; });
}

}  // namespace pagein::cli
