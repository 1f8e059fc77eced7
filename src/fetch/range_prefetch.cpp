#include "fetch/range_prefetch.h"

namespace pagein::fetch {
namespace {
// A host that refuses is not asked for each of a thousand runs.
constexpr size_t kMaxFailures = 3;
}  // namespace

RangePrefetch::RangePrefetch(size_t max_flights, std::function<void()> ended)
    : max_flights_(max_flights), ended_(std::move(ended)) {}

void RangePrefetch::add(const std::shared_ptr<LayerPager>& pager, Run run) {
  MutexLock lock(mutex_);
  auto& ends = ends_[pager.get()];
  if (const auto before = ends.find(run.first); before != ends.end()) {
    const size_t item = before->second;
    ends.erase(before);
    items_[item].run.last = run.last;
    ends[run.last] = item;
    return;
  }
  ends[run.last] = items_.size();
  items_.push_back({pager, run});
}

void RangePrefetch::start() {
  {
    MutexLock lock(mutex_);
    ends_.clear();
  }
  pump();
}

void RangePrefetch::cancel() {
  std::deque<Item> dropped;  // let go without the lock
  std::function<void()> ended;
  MutexLock lock(mutex_);
  dropped.swap(items_);
  ended.swap(ended_);
}

void RangePrefetch::pump() {
  std::function<void()> ended;
  for (;;) {
    Item item;
    {
      MutexLock lock(mutex_);
      if (failures_ >= kMaxFailures) items_.clear();
      if (items_.empty() && flights_ == 0 && starting_ == 0) ended.swap(ended_);
      if (items_.empty() || flights_ >= max_flights_) break;
      item = std::move(items_.front());
      items_.pop_front();
      ++flights_;   // before it can end
      ++starting_;  // what is left of it may come back
    }
    const auto next = item.pager->start_prefetch_run(
        item.run,
        [self = shared_from_this()](const Status& status) { self->on_flight_done(status); });
    MutexLock lock(mutex_);
    --starting_;
    if (!next) {
      --flights_;
    } else if (*next < item.run.last && ended_) {
      items_.push_front({std::move(item.pager), {*next, item.run.last}});
    }
  }
  if (ended) ended();
}

void RangePrefetch::on_flight_done(const Status& status) {
  {
    MutexLock lock(mutex_);
    --flights_;
    if (!status.ok()) ++failures_;
  }
  pump();
}

}  // namespace pagein::fetch
