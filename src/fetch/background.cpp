#include "fetch/background.h"

#include <algorithm>
#include <deque>
#include <optional>
#include <vector>

#include "base/log.h"

namespace pagein::fetch {
namespace {
// How soon to look again whether demand has let go of the link.
constexpr std::chrono::milliseconds kLookAgain{10};
// ... or whether others have brought what nothing could be started for.
constexpr std::chrono::milliseconds kMaxLookAgain{1000};
}  // namespace

// Outlives Background while its callbacks are under way.
struct Background::State : std::enable_shared_from_this<State> {
  using Time = net::Clock::time_point;
  struct Item {
    std::shared_ptr<LayerPager> pager;
    size_t flights = 0;
    std::chrono::milliseconds rest{0};
    Time not_before{};
    bool proving = false;
  };
  // What start_one() may try now.
  struct Choice {
    std::vector<std::shared_ptr<LayerPager>> candidates;
    bool reserved = false;  // one of `flights` is ours
  };

  State(Context& ctx, RunAfter r, BackgroundOptions o, Settled s)
      : context(ctx), run_after(std::move(r)), options(o), settled(std::move(s)) {}

  Context& context;
  const RunAfter run_after;
  const BackgroundOptions options;
  const Settled settled;

  mutable Mutex mutex;
  std::deque<Item> items GUARDED_BY(mutex);
  size_t flights GUARDED_BY(mutex) = 0;
  bool paused GUARDED_BY(mutex) = false;
  std::optional<Time> timer GUARDED_BY(mutex);  // the earliest one set
  Time last_start GUARDED_BY(mutex){};

  void pump();
  bool start_one();
  Choice choose() REQUIRES(mutex);
  bool start_run(const std::shared_ptr<LayerPager>& pager);
  void set_timer(Time at) REQUIRES(mutex);
  void on_timer(Time at);
  void on_run_done(const std::shared_ptr<LayerPager>& pager, const Status& status);
  void prove(const std::shared_ptr<LayerPager>& pager);
  void finish(const std::shared_ptr<LayerPager>& pager);
  void rest(Item& item, std::chrono::milliseconds least, std::chrono::milliseconds most)
      REQUIRES(mutex);
  Item* find(const LayerPager* pager) REQUIRES(mutex) {
    for (Item& item : items) {
      if (item.pager.get() == pager) return &item;
    }
    return nullptr;
  }
};

// Timers cannot be moved: an earlier one is set beside the one there is, which
// then finds that it is not the one waited for.
void Background::State::set_timer(Time at) {
  if (timer && *timer <= at) return;
  timer = at;
  const auto delay = std::chrono::ceil<std::chrono::milliseconds>(at - context.now());
  run_after(std::max(delay, std::chrono::milliseconds(0)), [weak = weak_from_this(), at] {
    if (const auto self = weak.lock()) self->on_timer(at);
  });
}

void Background::State::on_timer(Time at) {
  {
    MutexLock lock(mutex);
    if (timer != at) return;
    timer.reset();
  }
  pump();
}

void Background::State::pump() {
  while (start_one()) {
  }
}

Background::State::Choice Background::State::choose() {
  Choice choice;
  if (paused || items.empty() || context.stopping()) return choice;
  const Time now = context.now();
  for (const Item& item : items) {
    if (item.not_before > now) set_timer(item.not_before);
    else choice.candidates.push_back(item.pager);
  }
  // What ends a flight looks again.
  if (flights >= options.max_flights) choice.candidates.clear();
  if (choice.candidates.empty()) return choice;
  // A start must not share the link with what can wait, not even in its pauses.
  if (context.startup_active()) {
    set_timer(now + kLookAgain);
    choice.candidates.clear();
    return choice;
  }
  if (context.demand_busy() && (flights > 0 || now - last_start < options.trickle)) {
    set_timer(now + kLookAgain);
    choice.candidates.clear();
    return choice;
  }
  ++flights;
  choice.reserved = true;
  return choice;
}

// Starts one flight where that is due and possible; false where nothing more
// can start now.
bool Background::State::start_one() {
  Choice choice;
  {
    MutexLock lock(mutex);
    choice = choose();
  }
  if (!choice.reserved) return false;
  for (const auto& pager : choice.candidates) {
    if (start_run(pager)) return true;
  }
  MutexLock lock(mutex);
  --flights;
  return false;
}

bool Background::State::start_run(const std::shared_ptr<LayerPager>& pager) {
  {
    MutexLock lock(mutex);
    Item* item = find(pager.get());
    if (item == nullptr) return false;
    ++item->flights;
    // Before it can end.
    last_start = context.now();
  }
  if (pager->start_background_run([weak = weak_from_this(), pager](Status status) {
        if (const auto self = weak.lock()) self->on_run_done(pager, status);
      })) {
    return true;
  }
  MutexLock lock(mutex);
  Item* item = find(pager.get());
  if (item == nullptr) return false;
  --item->flights;
  // Nothing to start: all is there and only the proof is missing, flights for
  // readers bring the rest, or there is nowhere to fetch from.
  if (item->flights == 0 && !item->proving) {
    item->proving = true;
    context.pool(net::Priority::background).post([weak = weak_from_this(), pager] {
      if (const auto self = weak.lock()) self->prove(pager);
    });
  }
  return false;
}

void Background::State::rest(Item& item, std::chrono::milliseconds least,
                             std::chrono::milliseconds most) {
  item.rest = std::clamp(item.rest * 2, least, std::max(least, most));
  item.not_before = context.now() + item.rest;
  set_timer(item.not_before);
}

void Background::State::on_run_done(const std::shared_ptr<LayerPager>& pager,
                                    const Status& status) {
  std::chrono::milliseconds rested{0};
  {
    MutexLock lock(mutex);
    --flights;
    if (Item* item = find(pager.get())) {
      --item->flights;
      if (status.ok()) {
        item->rest = std::chrono::milliseconds(0);
      } else if (item->not_before <= context.now()) {  // else another flight failed too
        rest(*item, options.first_rest, options.max_rest);
        rested = item->rest;
      }
    }
  }
  if (rested.count() > 0 && status.error().code != Code::cancelled) {
    log::warn("background load of a layer failed and will be tried again",
              {{"layer", pager->layer().index()->layer_digest.str()},
               {"in_ms", rested.count()},
               {"why", status.error().message}});
  }
  // Not here: this may be a thread that readers wait for.
  context.pool(net::Priority::background).post([weak = weak_from_this(), pager] {
    pager->advance_proof();
    const auto self = weak.lock();
    if (self != nullptr && pager->settled()) self->finish(pager);
  });
  pump();
}

// Nothing could be started for the layer: all is there, or it has to wait.
void Background::State::prove(const std::shared_ptr<LayerPager>& pager) {
  pager->advance_proof();
  if (pager->settled()) return finish(pager);
  {
    MutexLock lock(mutex);
    if (Item* item = find(pager.get())) {
      item->proving = false;
      rest(*item, kLookAgain, kMaxLookAgain);
    }
  }
  pump();
}

void Background::State::finish(const std::shared_ptr<LayerPager>& pager) {
  {
    MutexLock lock(mutex);
    if (std::erase_if(items, [&](const Item& i) { return i.pager == pager; }) == 0) return;
  }
  if (settled) settled(pager);
  pump();
}

Background::Background(Context& context, RunAfter run_after, BackgroundOptions options,
                       Settled settled)
    : state_(std::make_shared<State>(context, std::move(run_after), options, std::move(settled))) {}

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
