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
  std::string encodings = "gzip,zstd";
  std::vector<std::string> platforms;
  uint64_t spacing_kib = 256;
  double max_index_share = 5;  // percent
  size_t jobs = 2;
  size_t threads = 0;
  bool json = false;
  bool no_cache = false;
  bool no_referrer = false;
  RegistryFlags registry;
};

constexpr std::string_view kSuffix = "_accelerated";
constexpr std::string_view kZstdSuffix = "_containerd_accelerated";

// The same place with another tag.
Result<std::string> with_tag(const registry::Location& location, const std::string& tag) {
  if (location.kind != registry::Location::Kind::registry) {
    registry::Location tagged = location;
    tagged.name = tag;
    return tagged.str();
  }
  ASSIGN_OR_RETURN(const oci::Reference tagged, location.reference.with_tag(tag));
  return tagged.str();
}

Result<std::string> tag_of(const registry::Location& location) {
  if (location.kind != registry::Location::Kind::registry) {
    return location.name.empty() ? std::string("latest") : location.name;
  }
  if (location.reference.digest() && !location.reference.tag()) {
    return Error(Code::invalid_argument,
                 location.str() + " has no tag to derive the destination's from: give DESTINATION");
  }
  return location.reference.tag().value_or("latest");
}

// "repo:tag" -> "repo:tag_accelerated"; the same for a layout's tag.
Result<std::string> default_destination(const std::string& source, std::string_view suffix) {
  ASSIGN_OR_RETURN(const registry::Location location, registry::parse_location(source));
  if (location.kind != registry::Location::Kind::registry &&
      location.kind != registry::Location::Kind::oci_layout) {
    return Error(Code::invalid_argument,
                 "an archive cannot be written to: give DESTINATION, for instance oci:DIR:TAG");
  }
  ASSIGN_OR_RETURN(const std::string tag, tag_of(location));
  return with_tag(location, tag + std::string(suffix));
}

// Of a destination that was given for both encodings: "x_accelerated" or "x" ->
// "x_containerd_accelerated".
Result<std::string> zstd_destination(const std::string& destination) {
  ASSIGN_OR_RETURN(const registry::Location location, registry::parse_location(destination));
  ASSIGN_OR_RETURN(std::string tag, tag_of(location));
  if (tag.ends_with(kSuffix)) tag.resize(tag.size() - kSuffix.size());
  return with_tag(location, tag + std::string(kZstdSuffix));
}

// What is to be written where.
struct Target {
  codec::Encoding encoding = codec::Encoding::gzip;  // full mode
  std::string destination;
};

const char* encoding_name(codec::Encoding encoding) {
  return encoding == codec::Encoding::zstd ? "zstd" : "gzip";
}

Result<std::vector<Target>> targets_of(const Flags& flags) {
  std::vector<Target> targets;
  if (flags.mode == "index") targets.push_back({});
  else {
    if (flags.encodings.find("gzip") != std::string::npos)
      targets.push_back({codec::Encoding::gzip, {}});
    if (flags.encodings.find("zstd") != std::string::npos)
      targets.push_back({codec::Encoding::zstd, {}});
  }
  for (Target& target : targets) {
    const bool zstd = target.encoding == codec::Encoding::zstd;
    if (flags.destination.empty()) {
      ASSIGN_OR_RETURN(target.destination,
                       default_destination(flags.source, zstd ? kZstdSuffix : kSuffix));
    } else if (zstd && targets.size() > 1) {
      ASSIGN_OR_RETURN(target.destination, zstd_destination(flags.destination));
    } else {
      target.destination = flags.destination;
    }
  }
  return targets;
}

class Observer : public convert::ConvertObserver {
 public:
  explicit Observer(Progress& progress) : progress_(progress) {}
  void on_layers(const std::vector<oci::Descriptor>& layers) override {
    std::vector<std::pair<std::string, uint64_t>> parts;
    for (const auto& layer : layers)
      parts.emplace_back(layer.digest.hex().substr(0, 12), layer.size);
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
  uint64_t base = 0;    // layers as they were
  uint64_t layers = 0;  // as they are published
  uint64_t indexes = 0;
  size_t left = 0;
  static double percent(uint64_t part, uint64_t whole) {
    return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
  }
};

Totals totals_of(const convert::ConvertReport& report) {
  Totals totals;
  for (const auto& layer : report.layers) {
    totals.base += layer.layer.size;
    totals.layers += layer.published.size;
    totals.indexes += layer.index.size;
    if (layer.outcome == convert::LayerOutcome::left) ++totals.left;
  }
  return totals;
}

nlohmann::json json_of(const convert::LayerReport& layer) {
  nlohmann::json item = {{"digest", layer.layer.digest.str()},
                         {"bytes", layer.layer.size},
                         {"outcome", outcome_name(layer.outcome)}};
  if (layer.outcome == convert::LayerOutcome::left) {
    item["reason"] = layer.reason;
  } else {
    item["index"] = {{"digest", layer.index.digest.str()},
                     {"bytes", layer.index.size},
                     {"head_bytes", layer.index.head_size}};
  }
  if (layer.published.digest != layer.layer.digest) {
    item["published"] = {{"digest", layer.published.digest.str()},
                         {"bytes", layer.published.size},
                         {"media_type", layer.published.media_type}};
  }
  if (layer.tar_size > 0) item["tar_bytes"] = layer.tar_size;
  if (layer.spans > 0) item["spans"] = layer.spans;
  return item;
}

// Of one accelerated image.
nlohmann::json json_of(const convert::ConvertReport& report, const std::string& destination) {
  using nlohmann::json;
  json layers = json::array();
  for (const auto& layer : report.layers) layers.push_back(json_of(layer));
  json platforms = json::array();
  for (const auto& platform : report.platforms) {
    platforms.push_back({{"platform", platform.platform.str()},
                         {"manifest", platform.manifest.str()},
                         {"layers", platform.layers}});
  }
  const Totals totals = totals_of(report);
  return {{"base", report.base.digest.str()},
          {"destination", destination},
          {"digest", report.accelerated.digest.str()},
          {"base_layer_bytes", totals.base},
          {"layer_bytes", totals.layers},
          {"layer_percent", Totals::percent(totals.layers, totals.base)},
          {"index_bytes", totals.indexes},
          {"index_percent", Totals::percent(totals.indexes, totals.layers)},
          {"platforms", std::move(platforms)},
          {"layers", std::move(layers)}};
}

struct Outcome {
  std::vector<Target> targets;
  std::vector<convert::ConvertReport> reports;  // per target
  double seconds = 0;
};

void print_json(const Flags& flags, const Outcome& outcome) {
  nlohmann::json out;
  if (flags.mode == "index") {
    out = json_of(outcome.reports.front(), outcome.targets.front().destination);
  } else {
    nlohmann::json images = nlohmann::json::array();
    for (size_t i = 0; i < outcome.targets.size(); ++i) {
      images.push_back(json_of(outcome.reports[i], outcome.targets[i].destination));
      images.back()["encoding"] = encoding_name(outcome.targets[i].encoding);
    }
    out = {{"base", outcome.reports.front().base.digest.str()}, {"images", std::move(images)}};
  }
  out["mode"] = flags.mode;
  out["seconds"] = outcome.seconds;
  std::printf("%s\n", out.dump(2).c_str());
}

void print_summary(const Flags& flags, const Outcome& outcome) {
  for (size_t i = 0; i < outcome.targets.size(); ++i) {
    const convert::ConvertReport& report = outcome.reports[i];
    const Totals totals = totals_of(report);
    std::printf("%s\n%s\n", outcome.targets[i].destination.c_str(),
                report.accelerated.digest.str().c_str());
    if (flags.mode == "index") {
      std::printf("%zu layers, %s", report.layers.size(), human_bytes(totals.layers).c_str());
    } else {
      std::printf("%zu layers, %s of %s (%.1f%% of the base image's)", report.layers.size(),
                  encoding_name(outcome.targets[i].encoding), human_bytes(totals.layers).c_str(),
                  Totals::percent(totals.layers, totals.base));
    }
    std::printf("; indexes %s (%.2f%%); %.1f s\n", human_bytes(totals.indexes).c_str(),
                Totals::percent(totals.indexes, totals.layers), outcome.seconds);
    if (totals.left > 0) {
      std::printf("%zu of them could not be %s and will be loaded the ordinary way\n", totals.left,
                  flags.mode == "index" ? "indexed" : "re-encoded");
    }
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

Result<std::vector<convert::ConvertReport>> convert_image(const Flags& flags,
                                                          const std::vector<Target>& targets,
                                                          Observer& observer) {
  std::vector<std::string> locations = {flags.source};
  for (const Target& target : targets) locations.push_back(target.destination);
  ASSIGN_OR_RETURN(const auto session, flags.registry.open(locations));
  std::vector<std::shared_ptr<registry::ImageDestination>> destinations;
  for (const Target& target : targets) {
    ASSIGN_OR_RETURN(const auto location, registry::parse_location(target.destination));
    ASSIGN_OR_RETURN(auto destination, registry::open_destination(location, session));
    destinations.push_back(std::move(destination));
  }
  ASSIGN_OR_RETURN(const auto source_location, registry::parse_location(flags.source));
  ASSIGN_OR_RETURN(const auto source, registry::open_source(source_location, session));
  std::vector<oci::Platform> platforms;
  for (const std::string& text : flags.platforms) {
    ASSIGN_OR_RETURN(oci::Platform platform, oci::Platform::parse(text));
    platforms.push_back(std::move(platform));
  }
  const auto cache = flags.no_cache ? std::filesystem::path() : cache_dir();
  const auto referrer = flags.no_referrer ? convert::Referrer::skip : convert::Referrer::publish;
  if (flags.mode == "index") {
    convert::ConvertOptions options;
    options.platforms = std::move(platforms);
    options.spacing = flags.spacing_kib << 10;
    options.max_index_share = static_cast<uint32_t>(flags.max_index_share * 100 + 0.5);
    options.parallel_layers = flags.jobs;
    options.cache = cache;
    options.referrer = referrer;
    options.stop = &g_stop;
    ASSIGN_OR_RETURN(auto report, convert::convert_to_index_only(*source, *destinations.front(),
                                                                 options, observer));
    return std::vector<convert::ConvertReport>{std::move(report)};
  }
  convert::FullOptions options;
  options.platforms = std::move(platforms);
  options.chunk = flags.spacing_kib << 10;
  options.parallel_layers = flags.jobs;
  options.threads = flags.threads;
  options.cache = cache;
  options.referrer = referrer;
  options.stop = &g_stop;
  std::vector<convert::FullTarget> full;
  for (size_t i = 0; i < targets.size(); ++i) {
    full.push_back({targets[i].encoding, destinations[i].get()});
  }
  return convert::convert_to_full(*source, full, options, observer);
}

int run_convert(const Flags& flags) {
  auto targets = targets_of(flags);
  if (!targets.ok()) return fail(targets.error());
  ::signal(SIGINT, [](int) { g_stop = true; });
  ::signal(SIGTERM, [](int) { g_stop = true; });
  const auto begin = std::chrono::steady_clock::now();
  auto reports = [&] {
    Progress progress(Progress::Style::automatic);
    Observer observer(progress);
    return convert_image(flags, *targets, observer);
  }();
  if (!reports.ok()) {
    if (g_stop) {
      std::fprintf(stderr, "pagein: stopped; nothing was published, the same command goes on\n");
      return kInterrupted;
    }
    return fail(reports.error().with_context("convert " + flags.source));
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const Outcome outcome{*std::move(targets), *std::move(reports), seconds.count()};
  if (flags.json) print_json(flags, outcome);
  else print_summary(flags, outcome);
  return kOk;
}

}  // namespace

void add_convert(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "convert",
      "Make an accelerated image: the same image, of which a node can read any part "
      "at once");
  auto flags = std::make_shared<Flags>();
  command->add_option("SOURCE", flags->source, "The base image's LOCATION")->required();
  command->add_option("DESTINATION", flags->destination,
                      "Where to write (default: SOURCE's tag with _accelerated; in full mode zstd "
                      "goes to the tag with _containerd_accelerated)");
  command
      ->add_option("--mode", flags->mode,
                   "index: layers stay as they are, an index is added; full: layers are "
                   "compressed anew in small pieces, independent of the base image")
      ->check(CLI::IsMember({"index", "full"}))
      ->capture_default_str();
  command
      ->add_option("--encodings", flags->encodings,
                   "Full mode: gzip for every client, zstd for containerd and newer Docker, or "
                   "both")
      ->check(CLI::IsMember({"gzip", "zstd", "gzip,zstd", "zstd,gzip"}))
      ->capture_default_str();
  command
      ->add_option("--platform", flags->platforms,
                   "Only this one, as os/arch; may be repeated (default: all)")
      ->allow_extra_args(false);
  command
      ->add_option("--spacing", flags->spacing_kib,
                   "KiB of tar between places where decoding can start: less makes reads finer "
                   "and the index larger")
      ->check(CLI::Range(64, 16384))
      ->capture_default_str();
  command
      ->add_option("--max-index-share", flags->max_index_share,
                   "Mode index: percent of a layer that its index may take where it is one long "
                   "zstd frame; where that is not enough, the layer is left as it is")
      ->check(CLI::Range(0.1, 100.0))
      ->capture_default_str();
  command->add_option("-j,--jobs", flags->jobs, "Layers at once")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command
      ->add_option("--threads", flags->threads,
                   "Full mode: threads that compress (default: as many as there are CPUs)")
      ->check(CLI::Range(1, 256));
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
