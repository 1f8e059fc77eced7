#include "apps/pagein/estimate.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/pagein/commands.h"

namespace pagein::cli {
namespace {

const char* state_name(convert::LayerEstimate::State state) {
  switch (state) {
    case convert::LayerEstimate::State::ready: return "ready";
    case convert::LayerEstimate::State::to_do: return "to do";
    case convert::LayerEstimate::State::left: return "left";
  }
  return "";
}

double percent(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100.0 * static_cast<double>(part) / static_cast<double>(whole);
}

}  // namespace

std::string estimate_json(const convert::Estimate& estimate,
                          const std::vector<std::string>& destinations) {
  using nlohmann::json;
  json layers = json::array();
  for (const auto& layer : estimate.layers) {
    layers.push_back({{"digest", layer.layer.digest.str()},
                      {"bytes", layer.layer.size},
                      {"state", state_name(layer.state)},
                      {"tar_bytes", layer.tar_bytes},
                      {"index_bytes", layer.index_bytes}});
    if (!layer.reason.empty()) layers.back()["reason"] = layer.reason;
  }
  json images = json::array();
  for (size_t i = 0; i < estimate.images.size(); ++i) {
    images.push_back({{"destination", destinations[i]},
                      {"layer_bytes", estimate.images[i].layer_bytes},
                      {"write_bytes", estimate.images[i].write_bytes}});
  }
  const json out = {{"dry_run", true},
                    {"base", estimate.base.digest.str()},
                    {"base_layer_bytes", estimate.base_bytes},
                    {"read_bytes", estimate.read_bytes},
                    {"cpu_seconds", estimate.cpu_seconds},
                    {"start_bytes", estimate.start_bytes},
                    {"images", std::move(images)},
                    {"layers", std::move(layers)}};
  return out.dump(2) + "\n";
}

void print_estimate(const convert::Estimate& estimate,
                    const std::vector<std::string>& destinations) {
  for (const auto& layer : estimate.layers) {
    std::printf("%s  %s  %s%s%s\n", layer.layer.digest.hex().substr(0, 12).c_str(),
                human_bytes(layer.layer.size).c_str(), state_name(layer.state),
                layer.reason.empty() ? "" : ": ", layer.reason.c_str());
  }
  std::printf("would read %s and take about %.1f s of CPU time\n",
              human_bytes(estimate.read_bytes).c_str(), estimate.cpu_seconds);
  for (size_t i = 0; i < estimate.images.size(); ++i) {
    const convert::ImageEstimate& image = estimate.images[i];
    std::printf("%s: layers of about %s (%.0f%% of the base image's); about %s to write\n",
                destinations[i].c_str(), human_bytes(image.layer_bytes).c_str(),
                percent(image.layer_bytes, estimate.base_bytes),
                human_bytes(image.write_bytes).c_str());
  }
  std::printf("a node would read about %s before a start, not %s\n",
              human_bytes(estimate.start_bytes).c_str(), human_bytes(estimate.base_bytes).c_str());
}

}  // namespace pagein::cli
