#include "fetch/background.h"

#include <algorithm>
#include <optional>

#include "base/log.h"

namespace pagein::fetch {
namespace {
// How soon to look again whether demand has let go of the link.
constexpr std::chrono::milliseconds kLookAgain{10};
}  // namespace

// Outlives Background while its callbacks are under way.
struct Background::State : std::enable_shared_from_this<State> {
  struct Item {
    std::shared_ptr<LayerPager> pager;
    size_t flights = 0;
    std::chrono::milliseconds rest{0};
    net::Clock::time_point not_before{};
    bool proving = false;
  };

  State(Context& ctx, std::shared_ptr<net::Client> c, BackgroundOptions o, Settled s)
      : context(ctx), client(std::move(c)), options(o), settled(std::move(s)) {}

  Context& context;
  const std::shared_ptr<net::Client> client;
  const BackgroundOptions options;
  const Settled settled;

  mutable Mutex mutex;
  std::deque<Item> items GUARDED_BY(mutex);
  size_t flights GUARDED_BY(mutex) = 0;
  bool paused GUARDED_BY(mutex) = false;
  // The earliest timer that is set; a later one that is set too finds nothing to do.
  std::optional<net::Clock::time_point> timer GUARDED_BY(mutex);
  net::Clock::time_point last_start GUARDED_BY(mutex){};

  void pump();
  bool start_one();
  void set_timer(std::chrono::milliseconds delay) REQUIRES(mutex);
  void on_run_done(const std::shared_ptr<LayerPager>& pager, const Status& status);
  void prove(const std::shared_ptr<LayerPager>& pager);
  Item* find(const LayerPager* pager) REQUIRES(mutex) {
    for (Item& item : items) {
      if (item.pager.get() == pager) return &item;
    }
    return nullptr;
  }
};

void Background::State::set_timer(std::chrono::milliseconds delay) {
  const auto at = net::Clock::now() + delay;
  if (timer && *timer <= at) return;
  timer = at;
  client->run_after(delay, [weak = weak_from_this(), at] {
    const auto self = weak.lock();
    if (self == nullptr) return;
    {
      MutexLock lock(self->mutex);
      if (self->timer == at) self->timer.reset();
    }
    self->pump();
  });
}

void Background::State::pump() {
  while (start_one()) {
  }
}

// Starts one flight where that is due and possible; false where nothing more
// can start now.
bool Background::State::start_one() {
  std::vector<std::shared_ptr<LayerPager>> candidates;
  {
    MutexLock lock(mutex);
    if (paused || items.empty() || flights >= options.max_flights) return false;
    const auto now = net::Clock::now();
    if (context.demand_busy() && (flights > 0 || now - last_start < options.trickle)) {
      set_timer(kLookAgain);
      return false;
    }
    auto next = net::Clock::time_point::max();
    for (const Item& item : items) {
      if (item.not_before <= now) candidates.push_back(item.pager);
      else next = std::min(next, item.not_before);
    }
    if (candidates.empty()) {
      set_timer(std::chrono::ceil<std::chrono::milliseconds>(next - now));
      return false;
    }
    ++flights;  // reserved
  }
  for (const auto& pager : candidates) {
    {
      MutexLock lock(mutex);
      if (Item* item = find(pager.get())) ++item->flights;
      else continue;
    }
    const bool started = pager->start_background_run(
        [weak = weak_from_this(), pager](Status status) {
          if (const auto self = weak.lock()) self->on_run_done(pager, status);
        });
    MutexLock lock(mutex);
    if (started) {
      last_start = net::Clock::now();
      return true;
    }
    if (Item* item = find(pager.get())) {
      --item->flights;
      // Nothing to start: either demand flights bring the rest, or all is
      // there and only the proof is missing.
      if (item->flights == 0 && !item->proving) {
        item->proving = true;
        context.pool(net::Priority::background).post([weak = weak_from_this(), pager] {
          if (const auto self = weak.lock()) self->prove(pager);
        });
      }
    }
  }
  MutexLock lock(mutex);
  --flights;
  return false;
}

void Background::State::on_run_done(const std::shared_ptr<LayerPager>& pager,
                                    const Status& status) {
  // Not here: a promoted flight ends on a demand thread, and the proof may
  // read and hash many megabytes.
  if (status.ok()) {
    context.pool(net::Priority::background).post([pager] { pager->advance_proof(); });
  }
  {
    MutexLock lock(mutex);
    --flights;
    if (Item* item = find(pager.get())) {
      --item->flights;
      if (status.ok()) {
        item->rest = std::chrono::milliseconds(0);
      } else if (status.error().code != Code::cancelled) {
        item->rest = std::clamp(item->rest * 2, options.first_rest, options.max_rest);
        item->not_before = net::Clock::now() + item->rest;
        log::warn("background load of a layer failed and will be tried again",
                  {{"layer", pager->layer().index()->layer_digest.str()},
                   {"in_ms", item->rest.count()},
                   {"why", status.error().message}});
      }
    }
  }
  pump();
}

void Background::State::prove(const std::shared_ptr<LayerPager>& pager) {
  pager->advance_proof();
  const bool is_settled = pager->settled();
  {
    MutexLock lock(mutex);
    Item* item = find(pager.get());
    if (item == nullptr) return;
    item->proving = false;
    if (is_settled) {
      std::erase_if(items, [&](const Item& i) { return i.pager == pager; });
    } else {
      // A flight for somebody else is still bringing spans, or the disk is full.
      item->rest = std::clamp(item->rest * 2, kLookAgain, options.max_rest);
      item->not_before = net::Clock::now() + item->rest;
      set_timer(item->rest);
    }
  }
  if (is_settled && settled) settled(pager);
  pump();
}

Background::Background(Context& context, std::shared_ptr<net::Client> client,
                       BackgroundOptions options, Settled settled)
    : state_(std::make_shared<State>(context, std::move(client), options, std::move(settled))) {}

Background::~Background() { pause(); }

void Background::add(std::shared_ptr<LayerPager> pager) {
  {
    MutexLock lock(state_->mutex);
    if (state_->find(pager.get()) != nullptr) return;
    State::Item item;
    item.pager = std::move(pager);
    state_->items.push_back(std::move(item));
  }
  state_->pump();
}

void Background::remove(const std::shared_ptr<LayerPager>& pager) {
  MutexLock lock(state_->mutex);
  std::erase_if(state_->items, [&](const State::Item& item) { return item.pager == pager; });
}

void Background::pause() {
  MutexLock lock(state_->mutex);
  state_->paused = true;
}

void Background::resume() {
  {
    MutexLock lock(state_->mutex);
    state_->paused = false;
  }
  state_->pump();
}

Background::Progress Background::progress() const {
  MutexLock lock(state_->mutex);
  return {state_->items.size(), state_->flights, state_->paused};
}

}  // namespace pagein::fetch
