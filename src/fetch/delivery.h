// What brings spans to a layer's pager that no flight of the layer does: the
// startup pack (startup_loader.h).
#pragma once

#include <cstddef>
#include <cstdint>

namespace pagein::fetch {

class LayerPager;

// Tells a pager's demand reads whether to wait. Places are those that
// LayerPager::expect() was given.
class Delivery {
 public:
  virtual ~Delivery() = default;
  // Whether what lies there comes sooner than a request of its own would bring
  // it. Called with the pager's lock: takes none, calls nothing.
  virtual bool is_near(uint64_t place) const = 0;
  // Somebody waits for this span now. Without a lock. Who delivers sees to it
  // that LayerPager::overtake() is called where the span does not come soon.
  virtual void on_awaited(LayerPager& pager, size_t span) = 0;
};

}  // namespace pagein::fetch
