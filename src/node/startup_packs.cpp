#include "node/startup_packs.h"

#include <algorithm>
#include <deque>

namespace pagein::node {
namespace {
constexpr size_t kMaxRemembered = 64;  // that have ended
}  // namespace

// Outlives StartupPacks while a loader's end is being told.
struct StartupPacks::State {
  struct Item {
    std::string image;
    oci::Digest manifest;
    std::vector<std::weak_ptr<fetch::LayerPager>> layers;  // whom it was for
    std::vector<std::string> ids;
    std::shared_ptr<fetch::StartupLoader> loader;  // null once it has ended
    fetch::StartupLoader::Progress last;

    bool is_for(const std::vector<std::shared_ptr<fetch::LayerPager>>& pagers) const {
      return std::equal(layers.begin(), layers.end(), pagers.begin(), pagers.end(),
                        [](const auto& weak, const auto& pager) { return weak.lock() == pager; });
    }
  };
  mutable Mutex mutex;
  std::deque<std::shared_ptr<Item>> items GUARDED_BY(mutex);
  bool stopped GUARDED_BY(mutex) = false;

  void on_end(const std::shared_ptr<Item>& item) {
    std::shared_ptr<fetch::StartupLoader> loader;  // let go without the lock
    MutexLock lock(mutex);
    loader = std::move(item->loader);
    if (loader != nullptr) item->last = loader->progress();
  }
  // Of what has ended, the oldest.
  void forget_some() REQUIRES(mutex) {
    for (auto it = items.begin(); items.size() > kMaxRemembered && it != items.end();) {
      if ((*it)->loader == nullptr) it = items.erase(it);
      else ++it;
    }
  }
};

StartupPacks::StartupPacks(fetch::Context& context, RunAfter run_after, size_t max_flights)
    : context_(context),
      run_after_(std::move(run_after)),
      max_flights_(max_flights),
      state_(std::make_shared<State>()) {}

StartupPacks::~StartupPacks() { stop(); }

void StartupPacks::begin(const Image& image, std::shared_ptr<registry::BlobSource> source,
                         const std::vector<std::shared_ptr<fetch::LayerPager>>& layers) {
  const bool missing = std::any_of(layers.begin(), layers.end(),
                                   [](const auto& pager) { return !pager->settled(); });
  if (!image.startup_pack || !missing) return;
  auto item = std::make_shared<State::Item>();
  item->image = image.reference;
  item->manifest = image.manifest_digest;
  for (const auto& pager : layers) {
    item->layers.push_back(pager);
    item->ids.push_back(pager->layer().id());
  }
  fetch::StartupPack pack;
  pack.location = *image.startup_pack;
  pack.source = std::move(source);
  pack.layers = layers;
  pack.image = image.reference;
  fetch::StartupOptions options;
  options.run_after = run_after_;
  options.max_flights = max_flights_;
  const auto loader = fetch::StartupLoader::make(context_, std::move(pack), std::move(options),
                                                 [state = state_, item] { state->on_end(item); });
  {
    MutexLock lock(state_->mutex);
    if (state_->stopped) return;
    for (const auto& other : state_->items) {
      if (other->manifest == image.manifest_digest && other->is_for(layers)) return;
    }
    std::erase_if(state_->items, [&](const auto& other) {
      return other->loader == nullptr && other->manifest == image.manifest_digest;
    });
    item->loader = loader;
    state_->items.push_back(item);
    state_->forget_some();
  }
  loader->start();
}

template <typename Matches>
void StartupPacks::cancel_if(Matches&& matches) {
  std::vector<std::shared_ptr<fetch::StartupLoader>> loaders;
  {
    MutexLock lock(state_->mutex);
    for (const auto& item : state_->items) {
      if (item->loader != nullptr && matches(*item)) loaders.push_back(item->loader);
    }
  }
  for (const auto& loader : loaders) loader->cancel();
}

void StartupPacks::cancel_layer(const std::string& id) {
  cancel_if([&](const State::Item& item) {
    return std::find(item.ids.begin(), item.ids.end(), id) != item.ids.end();
  });
}

void StartupPacks::cancel_image(const std::vector<std::string>& ids) {
  cancel_if([&](const State::Item& item) { return item.ids == ids; });
}

void StartupPacks::stop() {
  {
    MutexLock lock(state_->mutex);
    state_->stopped = true;
  }
  cancel_if([](const State::Item&) { return true; });
}

std::vector<StartupPacks::Report> StartupPacks::list() const {
  std::vector<Report> reports;
  MutexLock lock(state_->mutex);
  for (const auto& item : state_->items) {
    reports.push_back({item->image, item->manifest.str(),
                       item->loader != nullptr ? item->loader->progress() : item->last});
  }
  return reports;
}

}  // namespace pagein::node
