// pagein pull
#include <signal.h>

#include <nlohmann/json.hpp>
#include <stop_token>
#include <thread>

#include "apps/pagein/commands.h"
#include "apps/pagein/progress.h"
#include "containerd/client.h"
#include "containerd/pull.h"
#include "registry/image_store.h"

namespace pagein::cli {
namespace {

struct Flags {
  std::string reference;
  std::string address = "/run/containerd/containerd.sock";
  std::string name_space = "default";
  std::string snapshotter = "pagein";
  std::string platform;
  bool json = false;
  RegistryFlags registry;
};

// SIGINT and SIGTERM stop the pull, which then cleans up after itself.
std::stop_token stop_on_signals() {
  static std::stop_source source;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  std::thread([signals] {
    int signal = 0;
    ::sigwait(&signals, &signal);
    source.request_stop();
  }).detach();
  return source.get_token();
}

Result<containerd::PullSummary> pull(const Flags& flags, const std::stop_token& stop,
                                     Progress& progress) {
  ASSIGN_OR_RETURN(const auto session, flags.registry.open({flags.reference}));
  ASSIGN_OR_RETURN(const auto location, registry::parse_location(flags.reference));
  if (location.kind != registry::Location::Kind::registry) {
    return Error(Code::invalid_argument,
                 flags.reference + ": only images in a registry can be pulled");
  }
  const oci::Reference reference = location.reference.with_default_tag();
  ASSIGN_OR_RETURN(const auto source, registry::open_source(location, session));
  containerd::ClientOptions client_options;
  client_options.socket = flags.address;
  client_options.name_space = flags.name_space;
  const auto client = containerd::Client::open(client_options, stop);
  containerd::PlanRequest request;
  request.name = reference.str();
  request.platform = oci::Platform::host();
  if (!flags.platform.empty()) {
    ASSIGN_OR_RETURN(request.platform, oci::Platform::parse(flags.platform));
  }
  request.source_host = reference.host();
  request.source_repository = reference.repository();
  ASSIGN_OR_RETURN(request.target, source->resolve());
  ASSIGN_OR_RETURN(const containerd::PullPlan plan, containerd::plan_pull(request, *source));
  std::vector<std::pair<std::string, uint64_t>> parts;
  for (const auto& layer : plan.layers) {
    parts.emplace_back(layer.digest.hex().substr(0, 12), layer.size);
  }
  progress.begin(std::move(parts));
  containerd::PullOptions options;
  options.snapshotter = flags.snapshotter;
  options.on_progress = [&](const containerd::LayerProgress& layer) {
    switch (layer.state) {
      case containerd::LayerState::lazy:
      case containerd::LayerState::present:
      case containerd::LayerState::unpacked:
        progress.done(layer.layer, std::string(containerd::to_string(layer.state)));
        break;
      default:
        if (layer.fetched > 0) progress.update(layer.layer, layer.fetched);
    }
  };
  return containerd::pull_image(*client, plan, *source, options);
}

void print(const Flags& flags, const containerd::PullSummary& summary, double seconds) {
  size_t lazy = 0;
  size_t unpacked = 0;
  uint64_t fetched = 0;
  nlohmann::json layers = nlohmann::json::array();
  for (const auto& layer : summary.layers) {
    if (layer.state == containerd::LayerState::lazy) ++lazy;
    if (layer.state == containerd::LayerState::unpacked) ++unpacked;
    fetched += layer.fetched;
    layers.push_back({{"digest", layer.digest.str()},
                      {"chain_id", layer.chain_id.str()},
                      {"state", std::string(containerd::to_string(layer.state))},
                      {"fetched_bytes", layer.fetched}});
  }
  if (flags.json) {
    std::printf("%s\n", nlohmann::json{{"image", flags.reference},
                                       {"seconds", seconds},
                                       {"lazy_layers", lazy},
                                       {"fetched_bytes", fetched},
                                       {"layers", std::move(layers)}}
                            .dump(2)
                            .c_str());
    return;
  }
  std::printf("%s: %zu layers, %zu served lazily; %s of layers fetched; %.2f s\n",
              flags.reference.c_str(), summary.layers.size(), lazy, human_bytes(fetched).c_str(),
              seconds);
  if (unpacked > 0) {
    std::printf("%zu loaded the ordinary way: \"pagein why %s\" says why\n", unpacked,
                flags.reference.c_str());
  }
}

int run_pull(const Flags& flags) {
  const std::stop_token stop = stop_on_signals();
  const auto begin = std::chrono::steady_clock::now();
  const Result<containerd::PullSummary> summary = [&] {
    Progress progress(flags.json ? Progress::Style::silent : Progress::Style::automatic);
    return pull(flags, stop, progress);
  }();
  if (!summary.ok()) {
    Error error = summary.error().with_context("pull " + flags.reference);
    // The first thing that goes wrong on a new node.
    if (error.message.find("snapshotter not loaded") != std::string::npos) {
      error.message += "; containerd's configuration needs [proxy_plugins." + flags.snapshotter +
                       "], and containerd a restart after that";
    }
    return fail(error);
  }
  print(flags, *summary,
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  return kOk;
}

}  // namespace

void add_pull(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "pull", "Pull an image into containerd so that its layers are served lazily where possible");
  auto flags = std::make_shared<Flags>();
  command
      ->add_option("REFERENCE", flags->reference,
                   "The image in a registry: [host[:port]/]repository[:tag|@digest]")
      ->required();
  command->add_option("-a,--address", flags->address, "containerd's socket")->capture_default_str();
  command
      ->add_option("-n,--namespace", flags->name_space,
                   "containerd's namespace (Kubernetes: k8s.io)")
      ->capture_default_str();
  command
      ->add_option("--snapshotter", flags->snapshotter,
                   "Pagein's name in containerd's configuration")
      ->capture_default_str();
  command->add_option("--platform", flags->platform, "As os/arch (default: this machine's)");
  command->add_flag("--json", flags->json, "Print a summary as JSON");
  flags->registry.add_to(command);
  command->callback([flags, run] { *run = [flags] { return run_pull(*flags); }; });
}

}  // namespace pagein::cli
