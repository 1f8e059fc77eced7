// Startup packs of the images that this node begins to serve.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "fetch/startup_loader.h"
#include "node/image.h"

namespace pagein::node {

// Loads each image's pack once for as long as its layers stay in memory, and
// remembers for a while how that went. Nothing of it is kept across a restart: a
// pack that was being loaded is dropped then, and the rest comes by demand and in
// the background. Thread-safe; never blocks.
class StartupPacks {
 public:
  using RunAfter = std::function<void(std::chrono::milliseconds, std::function<void()>)>;

  // `context` must outlive it, and be stopped after stop().
  StartupPacks(fetch::Context& context, RunAfter run_after, size_t max_flights);
  ~StartupPacks();

  // Nothing happens for an image without a pack, or one whose pack was loaded, or
  // tried, for these very layers. `layers`: those that are served.
  void begin(const Image& image, std::shared_ptr<registry::BlobSource> source,
             const std::vector<std::shared_ptr<fetch::LayerPager>>& layers);
  // Calls off what loads for a layer, by its name in the store, that is to go.
  void cancel_layer(const std::string& id);
  // Calls off what loads for an image of just these layers.
  void cancel_image(const std::vector<std::string>& ids);
  // Calls off all; nothing begins any more.
  void stop();

  struct Report {
    std::string image;
    std::string manifest;
    fetch::StartupLoader::Progress progress;
  };
  std::vector<Report> list() const;  // oldest first

 private:
  struct State;
  template <typename Matches>
  void cancel_if(Matches&& matches);

  fetch::Context& context_;
  const RunAfter run_after_;
  const size_t max_flights_;
  const std::shared_ptr<State> state_;
};

}  // namespace pagein::node
