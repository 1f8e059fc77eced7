// Loads the rest of every image behind the containers that run from it.
#pragma once

#include <chrono>
#include <functional>
#include <memory>

#include "base/mutex.h"
#include "fetch/layer_pager.h"

namespace pagein::fetch {

struct BackgroundOptions {
  size_t max_flights = 2;  // at once, over all layers
  // While demand keeps the link busy, one flight may start this often.
  std::chrono::milliseconds trickle{250};
  // After a failed flight its layer rests for this long, doubled up to the cap.
  std::chrono::milliseconds first_rest{1000};
  std::chrono::milliseconds max_rest{60000};
};

// Layers are loaded in the order they were added, the next one beginning when
// the one before has no more to start. Flights start only while no demand read
// is under way or was a moment ago, and no startup pack is being loaded. Thread-safe; never blocks.
// Invariants:
//  B1 While a layer is here and not settled, a flight of it is under way, its
//     proof is, or a timer is set (or all is paused, or the context stops).
//  B2 A layer whose flights fail, or that nothing can be started for, is looked
//     at again after a rest, never in a loop.
class Background {
 public:
  // Runs the task after the delay, on any thread but never inside the call.
  // Dropping it is allowed at the end only. net::Client::run_after.
  using RunAfter = std::function<void(std::chrono::milliseconds, std::function<void()>)>;

  // Called on a worker thread when a layer is settled (complete, or
  // quarantined): for graduation of its mounts.
  using Settled = std::function<void(const std::shared_ptr<LayerPager>&)>;

  Background(Context& context, RunAfter run_after, BackgroundOptions options, Settled settled);
  ~Background();

  // Adding twice is adding once; a settled layer is reported and not kept.
  void add(std::shared_ptr<LayerPager> pager);
  void remove(const std::shared_ptr<LayerPager>& pager);

  // Starts no more flights. For a stop, or an operator.
  void pause();
  void resume();

  struct Progress {
    size_t layers = 0;   // waiting or loading
    size_t flights = 0;  // under way
    bool paused = false;
  };
  Progress progress() const;

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace pagein::fetch
