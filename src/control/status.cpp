#include "control/status.h"

#include <nlohmann/json.hpp>
#include <set>

#include "mount/kernel_facts.h"

namespace pagein::control {
namespace {

using nlohmann::json;

std::string dump(const json& value) {
  return value.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

json layer_json(const fetch::LayerPager& pager) {
  const store::Layer& layer = pager.layer();
  const index::LayerIndex& index = *layer.index();
  json out = {{"id", layer.id()},
              {"digest", index.layer_digest.str()},
              {"from", pager.origin_name()},
              {"bytes", index.layer_size},
              {"tar_bytes", index.tar_size},
              {"spans", index.spans.size()},
              {"spans_present", layer.presence().count()},
              {"complete", layer.complete()},
              {"disk_bytes", layer.disk_usage()}};
  if (layer.quarantined()) out["quarantined"] = layer.quarantine_reason();
  return out;
}

json chain_json(const node::ImageMounts::ChainStatus& chain) {
  json layers = json::array();
  uint64_t present = 0;
  uint64_t total = 0;
  for (const auto& pager : chain.layers) {
    layers.push_back(layer_json(*pager));
    present += pager->layer().presence().count();
    total += pager->layer().presence().size();
  }
  json mounts = json::array();
  for (const node::MountRecord& mount : chain.record.mounts) {
    mounts.push_back({{"generation", mount.generation},
                      {"holders", mount.holders},
                      {"engine", mount::engine_kind_name(mount.state.engine)},
                      {"needs_daemon", mount.state.needs_daemon}});
  }
  return {{"key", chain.key},
          {"name", chain.record.name},
          {"layers", std::move(layers)},
          {"mounts", std::move(mounts)},
          {"device_reads", chain.reads},
          {"present_share",
           total == 0 ? 1.0 : static_cast<double>(present) / static_cast<double>(total)}};
}

json engine_json(const mount::EngineProbe& probe) {
  return {{"name", probe.engine},
          {"usable", probe.usable},
          {"takeover", probe.takeover},
          {"direct", probe.direct},
          {"findings", probe.findings}};
}

// One line of Prometheus' text format, with its help where a name begins.
class Metrics {
 public:
  void value(const std::string& name, const char* type, const char* help, double v,
             const std::string& labels = "") {
    if (seen_.insert(name).second) {
      text_ += "# HELP " + name + " " + help + "\n# TYPE " + name + " " + type + "\n";
    }
    char number[64];
    std::snprintf(number, sizeof number, "%.17g", v);
    text_ += name + (labels.empty() ? "" : "{" + labels + "}") + " " + number + "\n";
  }
  void counter(const std::string& name, const char* help, double v,
               const std::string& labels = "") {
    value(name, "counter", help, v, labels);
  }
  void gauge(const std::string& name, const char* help, double v, const std::string& labels = "") {
    value(name, "gauge", help, v, labels);
  }
  std::string take() { return std::move(text_); }

 private:
  std::set<std::string> seen_;
  std::string text_;
};

constexpr const char* kClasses[] = {"demand", "prefetch", "background"};
static_assert(std::size(kClasses) == net::kPriorityCount);

void fetch_metrics(node::Node& node, Metrics* out) {
  const fetch::Counters& counters = node.fetch_context().counters();
  for (size_t i = 0; i < net::kPriorityCount; ++i) {
    const std::string label = std::string("class=\"") + kClasses[i] + "\"";
    out->counter("pagein_fetch_bytes_total", "Compressed bytes received from registries.",
                 static_cast<double>(counters.bytes[i]), label);
    out->counter("pagein_fetch_flights_total", "Runs of spans that were asked for.",
                 static_cast<double>(counters.flights[i]), label);
    out->counter("pagein_fetch_spans_total", "Spans that came and were verified.",
                 static_cast<double>(counters.spans[i]), label);
  }
  out->counter("pagein_read_misses_total", "Reads that had to wait for a registry.",
               static_cast<double>(counters.reads));
  out->counter("pagein_read_joined_total", "Of them, waited for a flight already under way.",
               static_cast<double>(counters.joined));
  out->counter("pagein_read_wait_seconds_total", "Time that reads waited, summed.",
               static_cast<double>(counters.wait_us) / 1e6);
  out->counter("pagein_read_errors_total", "Reads that ended with EIO.",
               static_cast<double>(counters.errors));
  out->counter("pagein_verify_failures_total", "Fetched bytes that did not verify.",
               static_cast<double>(counters.verify_failures));
  out->counter("pagein_store_full_total", "Spans that the disk had no room for.",
               static_cast<double>(counters.store_full));
  const fetch::Background::Progress progress = node.background().progress();
  out->gauge("pagein_background_layers", "Layers that still load.",
             static_cast<double>(progress.layers));
}

void startup_metrics(node::Node& node, Metrics* out) {
  const fetch::Counters& counters = node.fetch_context().counters();
  out->counter("pagein_startup_packs_total", "Startup packs whose loading began.",
               static_cast<double>(counters.startup_loads));
  out->counter("pagein_startup_failures_total", "Of them, given up for an error.",
               static_cast<double>(counters.startup_failures));
  out->counter("pagein_startup_hits_total",
               "Reads that were the first to find here what a startup pack brought.",
               static_cast<double>(counters.startup_hits));
  out->counter("pagein_startup_waits_total", "Reads that waited for a startup pack.",
               static_cast<double>(counters.startup_waits));
  out->counter("pagein_startup_overtakes_total",
               "Reads that fetched what a startup pack would have brought too late.",
               static_cast<double>(counters.startup_overtakes));
  out->counter("pagein_startup_misses_total",
               "Reads of layers with a startup pack that had to fetch, overtakes counted.",
               static_cast<double>(counters.startup_misses));
}

void client_metrics(node::Node& node, Metrics* out) {
  const net::Stats stats = node.client().stats();
  out->counter("pagein_http_requests_total", "Requests to registries, redirects counted.",
               static_cast<double>(stats.requests));
  out->counter("pagein_http_failures_total", "Requests that failed.",
               static_cast<double>(stats.failures));
  out->counter("pagein_http_connects_total", "Connections made.",
               static_cast<double>(stats.connects));
  out->counter("pagein_http_received_bytes_total", "Bytes received.",
               static_cast<double>(stats.bytes_received));
  out->gauge("pagein_http_active", "Requests under way.", static_cast<double>(stats.active));
}

const char* name_of(fetch::StartupLoader::State state) {
  switch (state) {
    case fetch::StartupLoader::State::loading: return "loading";
    case fetch::StartupLoader::State::done: return "done";
    case fetch::StartupLoader::State::failed: return "failed";
    case fetch::StartupLoader::State::cancelled: break;
  }
  return "cancelled";
}

json startup_json(const node::StartupPacks::Report& report) {
  const fetch::StartupLoader::Progress& progress = report.progress;
  json out = {{"image", report.image},
              {"manifest", report.manifest},
              {"state", name_of(progress.state)},
              {"bytes", progress.size},
              {"received_bytes", progress.received},
              {"spans", progress.spans},
              {"seconds", static_cast<double>(progress.time.count()) / 1e6}};
  if (!progress.error.empty()) out["why"] = progress.error;
  return out;
}

}  // namespace

std::string status_json(node::Node& node) {
  json images = json::array();
  for (const auto& chain : node.images()) images.push_back(chain_json(chain));
  json manual = json::array();
  for (const auto& mount : node.manual_mounts()) {
    manual.push_back({{"dir", mount.dir.native()}, {"location", mount.location}});
  }
  json startup = json::array();
  for (const auto& report : node.startup_packs()) startup.push_back(startup_json(report));
  const fetch::Counters& counters = node.fetch_context().counters();
  json bytes;
  for (size_t i = 0; i < net::kPriorityCount; ++i) bytes[kClasses[i]] = counters.bytes[i].load();
  const fetch::Background::Progress progress = node.background().progress();
  const store::LayerStore::Usage usage = node.layers().store().usage();
  return dump(
      {{"version", PAGEIN_VERSION},
       {"images", std::move(images)},
       {"manual_mounts", std::move(manual)},
       {"fetched_bytes", std::move(bytes)},
       {"read_errors", counters.errors.load()},
       {"startup_packs", std::move(startup)},
       {"startup_reads",
        {{"hits", counters.startup_hits.load()},
         {"waits", counters.startup_waits.load()},
         {"overtakes", counters.startup_overtakes.load()},
         {"misses", counters.startup_misses.load()}}},
       {"background",
        {{"layers", progress.layers}, {"flights", progress.flights}, {"paused", progress.paused}}},
       {"store",
        {{"bytes", usage.bytes},
         {"layers", usage.layers},
         {"limit_bytes", node.layers().store().space().limit()}}}});
}

std::string recording_json(const node::Node::RecordingStart& start) {
  const oci::ImageConfig& config = start.image->config;
  return dump({{"id", start.id},
               {"tree", start.tree.native()},
               {"manifest", start.image->manifest_digest.str()},
               {"platform", config.platform.str()},
               {"entrypoint", config.entrypoint},
               {"cmd", config.cmd},
               {"env", config.env},
               {"working_dir", config.working_dir},
               {"user", config.user}});
}

std::string doctor_json(node::Node& node) {
  const mount::EngineProbe& probe = node.probe();
  std::vector<mount::EngineProbe> reports = node.engine_reports();
  if (reports.empty()) reports.push_back(probe);
  json engines = json::array();
  uint64_t fuse_flags = 0;
  for (const mount::EngineProbe& report : reports) {
    engines.push_back(engine_json(report));
    fuse_flags |= report.fuse_flags;
  }
  const mount::KernelFacts kernel = mount::load_kernel_facts(fuse_flags);
  json facts = json::array();
  for (const mount::KernelFact& fact : kernel.facts) {
    facts.push_back({{"name", fact.name}, {"there", fact.there}, {"note", fact.note}});
  }
  const auto type = mount::file_system_type(node.config().root.native());
  return dump({{"version", PAGEIN_VERSION},
               {"engine", engine_json(probe)},
               {"engines", std::move(engines)},
               {"kernel", {{"release", kernel.release}, {"facts", std::move(facts)}}},
               {"root", node.config().root.native()},
               {"root_file_system", type.ok() ? *type : "?"},
               {"socket", node.config().socket.native()},
               {"keeps_descriptors", node.keeps_descriptors()},
               {"trust", node.config().trust.repositories}});
}

std::string declines_json(node::Node& node) {
  json list = json::array();
  for (const auto& decline : node.declines()) {
    list.push_back({{"image", decline.image}, {"layer", decline.layer}, {"why", decline.reason}});
  }
  return dump({{"declined", std::move(list)}});
}

std::string metrics_text(node::Node& node) {
  Metrics out;
  fetch_metrics(node, &out);
  startup_metrics(node, &out);
  client_metrics(node, &out);
  const auto images = node.images();
  size_t mounts = 0;
  for (const auto& chain : images) mounts += chain.record.mounts.size();
  out.gauge("pagein_images", "Merged images known.", static_cast<double>(images.size()));
  out.gauge("pagein_image_mounts", "Mounts of merged images.", static_cast<double>(mounts));
  const store::LayerStore::Usage usage = node.layers().store().usage();
  out.gauge("pagein_store_bytes", "Bytes of the store on disk.", static_cast<double>(usage.bytes));
  out.gauge("pagein_store_layers", "Layers in the store.", static_cast<double>(usage.layers));
  out.gauge("pagein_store_limit_bytes", "Bytes that the store may take on disk.",
            static_cast<double>(node.layers().store().space().limit()));
  out.counter("pagein_store_evicted_layers_total", "Layers that were evicted for room.",
              static_cast<double>(node.evictor().evicted_layers()));
  out.counter("pagein_store_evicted_bytes_total", "Bytes on disk that eviction gave back.",
              static_cast<double>(node.evictor().evicted_bytes()));
  return out.take();
}

}  // namespace pagein::control
