// pagein convert
#include <signal.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "apps/pagein/commands.h"
#include "apps/pagein/estimate.h"
#include "apps/pagein/progress.h"
#include "convert/convert.h"
#include "oci/reference.h"
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
  std::string suffix = "_accelerated";
  unsigned retries = 0;
  bool dry_run = false;
  std::string output_json;
  bool json = false;
  bool no_cache = false;
  bool no_referrer = false;
  std::string prefetch_list;
  std::string startup_trace;
  bool no_auto_prefetch = false;
  uint64_t pack_limit = convert::kDefaultPackLimit;
  RegistryFlags registry;
};

// In front of the suffix of zstd images in full mode.
constexpr std::string_view kZstdPrefix = "_containerd";

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
Result<std::string> default_destination(const std::string& source, const std::string& suffix) {
  ASSIGN_OR_RETURN(const registry::Location location, registry::parse_location(source));
  if (location.kind != registry::Location::Kind::registry &&
      location.kind != registry::Location::Kind::oci_layout) {
    return Error(Code::invalid_argument,
                 "an archive cannot be written to: give DESTINATION, for instance oci:DIR:TAG");
  }
  ASSIGN_OR_RETURN(const std::string tag, tag_of(location));
  return with_tag(location, tag + suffix);
}

// Of a destination that was given for both encodings: "x_accelerated" or "x" ->
// "x_containerd_accelerated".
Result<std::string> zstd_destination(const std::string& destination, const std::string& suffix) {
  ASSIGN_OR_RETURN(const registry::Location location, registry::parse_location(destination));
  ASSIGN_OR_RETURN(std::string tag, tag_of(location));
  if (tag.ends_with(suffix)) tag.resize(tag.size() - suffix.size());
  return with_tag(location, tag + std::string(kZstdPrefix) + suffix);
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
      ASSIGN_OR_RETURN(
          target.destination,
          default_destination(flags.source, (zstd ? std::string(kZstdPrefix) : "") + flags.suffix));
    } else if (zstd && targets.size() > 1) {
      ASSIGN_OR_RETURN(target.destination, zstd_destination(flags.destination, flags.suffix));
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
  uint64_t packs = 0;
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
  for (const auto& platform : report.platforms) {
    if (platform.startup.pack) totals.packs += platform.startup.pack->size;
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

nlohmann::json json_of(const convert::StartupReport& startup) {
  nlohmann::json out = {{"origins", startup.origins},
                        {"unknown_paths", startup.unknown_paths},
                        {"unknown_reads", startup.unknown_reads}};
  if (!startup.note.empty()) out["note"] = startup.note;
  if (!startup.pack) return out;
  out["digest"] = startup.pack->digest.str();
  out["bytes"] = startup.pack->size;
  out["head_bytes"] = startup.pack->head_size;
  out["settings"] = startup.settings;
  out["pieces"] = startup.pieces;
  out["stored_pieces"] = startup.stored_pieces;
  out["stored_bytes"] = startup.stored_bytes;
  out["tar_bytes"] = startup.tar_bytes;
  out["stored_tar_bytes"] = startup.stored_tar_bytes;
  return out;
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
                         {"layers", platform.layers},
                         {"startup", json_of(platform.startup)}});
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
          {"pack_bytes", totals.packs},
          {"platforms", std::move(platforms)},
          {"layers", std::move(layers)}};
}

struct Outcome {
  std::vector<Target> targets;
  std::vector<convert::ConvertReport> reports;  // per target
  double seconds = 0;
};

std::string json_text(const Flags& flags, const Outcome& outcome) {
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
  // Paths of the list are bytes.
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

// One line for each platform that has something to say.
void print_startup(const convert::ConvertReport& report) {
  for (const auto& platform : report.platforms) {
    const convert::StartupReport& startup = platform.startup;
    if (!startup.pack) continue;
    std::string origins;
    for (const std::string& origin : startup.origins) {
      origins += (origins.empty() ? "" : " and ") + origin;
    }
    std::printf("%s: startup pack %s (%.2f%%) from %s: %zu of %zu pieces, %s of %s of tar\n",
                platform.platform.str().c_str(), human_bytes(startup.pack->size).c_str(),
                Totals::percent(startup.pack->size, totals_of(report).layers), origins.c_str(),
                startup.stored_pieces, startup.pieces,
                human_bytes(startup.stored_tar_bytes).c_str(),
                human_bytes(startup.tar_bytes).c_str());
  }
}

// What a person should know about the list and the trace that were given; of the
// first target, since it is the same for all.
void warn_of_startup(const convert::ConvertReport& report) {
  for (const auto& platform : report.platforms) {
    const convert::StartupReport& startup = platform.startup;
    const std::string name = platform.platform.str();
    for (const std::string& path : startup.unknown_paths) {
      std::fprintf(stderr, "pagein: %s: the image has no %s\n", name.c_str(), path.c_str());
    }
    if (startup.unknown_reads > 0) {
      std::fprintf(stderr, "pagein: %s: %zu reads of the trace are of layers it does not have\n",
                   name.c_str(), startup.unknown_reads);
    }
    if (!startup.note.empty()) {
      std::fprintf(stderr, "pagein: %s: no startup pack: %s\n", name.c_str(), startup.note.c_str());
    }
  }
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
    print_startup(report);
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

Result<convert::StartupOptions> startup_options(const Flags& flags) {
  convert::StartupOptions options;
  options.pack_limit = flags.pack_limit;
  if (flags.no_auto_prefetch) options.automatic = convert::AutoPrefetch::off;
  if (!flags.prefetch_list.empty()) {
    ASSIGN_OR_RETURN(const std::string text,
                     read_file(flags.prefetch_list, startup::kMaxListBytes));
    auto list = startup::parse_prefetch_list(text);
    if (!list.ok()) return list.error().with_context(flags.prefetch_list);
    options.list = *std::move(list);
  }
  if (!flags.startup_trace.empty()) {
    ASSIGN_OR_RETURN(const std::string text,
                     read_file(flags.startup_trace, startup::kMaxTraceBytes));
    auto trace = startup::parse_trace(as_bytes(text));
    if (!trace.ok()) return trace.error().with_context(flags.startup_trace);
    options.trace = *std::move(trace);
  }
  return options;
}

// What the command line names, opened.
struct Places {
  std::shared_ptr<registry::ImageSource> source;
  std::vector<std::shared_ptr<registry::ImageDestination>> destinations;
  std::vector<oci::Platform> platforms;
};

Result<Places> open_places(const Flags& flags, const std::vector<Target>& targets) {
  std::vector<std::string> locations = {flags.source};
  for (const Target& target : targets) locations.push_back(target.destination);
  ASSIGN_OR_RETURN(const auto session, flags.registry.open(locations));
  Places places;
  for (const Target& target : targets) {
    ASSIGN_OR_RETURN(const auto location, registry::parse_location(target.destination));
    ASSIGN_OR_RETURN(auto destination, registry::open_destination(location, session));
    places.destinations.push_back(std::move(destination));
  }
  ASSIGN_OR_RETURN(const auto source_location, registry::parse_location(flags.source));
  ASSIGN_OR_RETURN(places.source, registry::open_source(source_location, session));
  for (const std::string& text : flags.platforms) {
    ASSIGN_OR_RETURN(oci::Platform platform, oci::Platform::parse(text));
    places.platforms.push_back(std::move(platform));
  }
  return places;
}

Result<convert::Estimate> estimate_image(const Flags& flags, const std::vector<Target>& targets) {
  ASSIGN_OR_RETURN(Places places, open_places(flags, targets));
  convert::EstimateOptions options;
  options.platforms = std::move(places.platforms);
  options.spacing = flags.spacing_kib << 10;
  options.max_index_share = static_cast<uint32_t>(flags.max_index_share * 100 + 0.5);
  options.cache = flags.no_cache ? std::filesystem::path() : cache_dir();
  if (flags.mode == "full") options.mode = convert::EstimateOptions::Mode::full;
  std::vector<convert::EstimateTarget> estimated;
  for (size_t i = 0; i < targets.size(); ++i) {
    estimated.push_back({targets[i].encoding, places.destinations[i].get()});
  }
  return convert::estimate_conversion(*places.source, estimated, options);
}

int run_estimate(const Flags& flags, const std::vector<Target>& targets) {
  const auto estimate = estimate_image(flags, targets);
  if (!estimate.ok()) return fail(estimate.error().with_context("convert " + flags.source));
  std::vector<std::string> destinations;
  for (const Target& target : targets) destinations.push_back(target.destination);
  const std::string json = estimate_json(*estimate, destinations);
  if (flags.json) std::fputs(json.c_str(), stdout);
  else print_estimate(*estimate, destinations);
  if (flags.output_json.empty()) return kOk;
  const Status written = replace_file(flags.output_json, as_bytes(json));
  return written.ok() ? kOk : fail(written.error());
}

Result<std::vector<convert::ConvertReport>> convert_image(const Flags& flags,
                                                          const std::vector<Target>& targets,
                                                          Observer& observer) {
  ASSIGN_OR_RETURN(Places places, open_places(flags, targets));
  ASSIGN_OR_RETURN(auto startup, startup_options(flags));
  const auto cache = flags.no_cache ? std::filesystem::path() : cache_dir();
  const auto referrer = flags.no_referrer ? convert::Referrer::skip : convert::Referrer::publish;
  if (flags.mode == "index") {
    convert::ConvertOptions options;
    options.platforms = std::move(places.platforms);
    options.spacing = flags.spacing_kib << 10;
    options.max_index_share = static_cast<uint32_t>(flags.max_index_share * 100 + 0.5);
    options.parallel_layers = flags.jobs;
    options.cache = cache;
    options.referrer = referrer;
    options.startup = std::move(startup);
    options.stop = &g_stop;
    ASSIGN_OR_RETURN(auto report,
                     convert::convert_to_index_only(*places.source, *places.destinations.front(),
                                                    options, observer));
    return std::vector<convert::ConvertReport>{std::move(report)};
  }
  convert::FullOptions options;
  options.platforms = std::move(places.platforms);
  options.chunk = flags.spacing_kib << 10;
  options.parallel_layers = flags.jobs;
  options.threads = flags.threads;
  options.cache = cache;
  options.referrer = referrer;
  options.startup = std::move(startup);
  options.stop = &g_stop;
  std::vector<convert::FullTarget> full;
  for (size_t i = 0; i < targets.size(); ++i) {
    full.push_back({targets[i].encoding, places.destinations[i].get()});
  }
  return convert::convert_to_full(*places.source, full, options, observer);
}

// Waits longer each time, at most half a minute; false: stopped meanwhile.
bool wait_before_retry(unsigned attempt) {
  const std::chrono::seconds pause(attempt < 5 ? 1U << attempt : 30U);
  const auto until = std::chrono::steady_clock::now() + pause;
  while (std::chrono::steady_clock::now() < until) {
    if (g_stop) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  return true;
}

// What was pushed before a failure is found again, so a retry goes on.
Result<std::vector<convert::ConvertReport>> convert_with_retries(
    const Flags& flags, const std::vector<Target>& targets) {
  for (unsigned attempt = 0;; ++attempt) {
    auto reports = [&] {
      Progress progress(Progress::Style::automatic);
      Observer observer(progress);
      return convert_image(flags, targets, observer);
    }();
    if (reports.ok() || attempt >= flags.retries || g_stop) return reports;
    const Code code = reports.error().code;
    if (code != Code::unavailable && code != Code::timeout) return reports;
    std::fprintf(stderr, "pagein: %s; trying again (%u of %u)\n", reports.error().message.c_str(),
                 attempt + 1, flags.retries);
    if (!wait_before_retry(attempt)) return reports;
  }
}

int run_convert(const Flags& flags) {
  auto targets = targets_of(flags);
  if (!targets.ok()) return fail(targets.error());
  if (flags.dry_run) return run_estimate(flags, *targets);
  ::signal(SIGINT, [](int) { g_stop = true; });
  ::signal(SIGTERM, [](int) { g_stop = true; });
  const auto begin = std::chrono::steady_clock::now();
  auto reports = convert_with_retries(flags, *targets);
  if (!reports.ok()) {
    if (g_stop) {
      std::fprintf(stderr, "pagein: stopped; nothing was published, the same command goes on\n");
      return kInterrupted;
    }
    return fail(reports.error().with_context("convert " + flags.source));
  }
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
  const Outcome outcome{*std::move(targets), *std::move(reports), seconds.count()};
  warn_of_startup(outcome.reports.front());
  const std::string json = json_text(flags, outcome);
  if (flags.json) std::fputs(json.c_str(), stdout);
  else print_summary(flags, outcome);
  if (flags.output_json.empty()) return kOk;
  const Status written = replace_file(flags.output_json, as_bytes(json));
  if (written.ok()) return kOk;
  return fail(written.error().with_context("the image is published; its summary is not written"));
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
  command
      ->add_option("--target-suffix", flags->suffix,
                   "What the default DESTINATION's tag has behind SOURCE's; zstd images of full "
                   "mode have _containerd before it")
      ->check([](const std::string& suffix) {
        const bool good = !suffix.empty() && oci::is_valid_tag("x" + suffix);
        return good ? std::string() : std::string("cannot be a part of a tag");
      })
      ->capture_default_str();
  command->add_flag("--dry-run", flags->dry_run,
                    "Write nothing; say what it would read, write and take");
  command
      ->add_option("--retry", flags->retries,
                   "Go on this often after failures of the network or of a registry")
      ->check(CLI::Range(0, 100))
      ->capture_default_str();
  command->add_flag("--json", flags->json, "Print a summary as JSON");
  command->add_option("--output-json", flags->output_json, "Write the same to this file");
  command->add_flag("--no-cache", flags->no_cache,
                    "Neither use nor keep indexes in ~/.cache/pagein");
  command->add_flag("--no-referrer", flags->no_referrer,
                    "Do not tell the base image's referrers of the accelerated image");
  command
      ->add_option("--prefetch-list", flags->prefetch_list,
                   "FILE of what a start needs: one absolute path a line, a directory's with a "
                   "slash at its end; goes into the startup pack")
      ->check(CLI::ExistingFile);
  command
      ->add_option("--startup-trace", flags->startup_trace,
                   "FILE with the trace of a start, for the same (default: the one that is "
                   "attached to the base image)")
      ->check(CLI::ExistingFile);
  command->add_flag("--no-auto-prefetch", flags->no_auto_prefetch,
                    "Without list and trace: no startup pack, instead of one of what the entry "
                    "point names");
  command
      ->add_option("--pack-limit", flags->pack_limit,
                   "Bytes that the startup pack stores, as 64MiB; never more than a tenth of the "
                   "image (default: 64MiB)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/false))
      ->check(CLI::Range(uint64_t{0}, convert::kMaxPackLimit));
  flags->registry.add_to(command);
  command->footer(kLocationHelp);
  command->callback([flags, run] { *run = [flags] { return run_convert(*flags); }; });
}

}  // namespace pagein::cli
