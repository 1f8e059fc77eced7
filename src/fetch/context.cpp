#include "fetch/context.h"

namespace pagein::fetch {
namespace {

// A starting program computes between reads; within this pause it is likely
// to ask for more.
constexpr int64_t kDemandLingerUs = 8000;
constexpr size_t kKeptDecoders = 16;

int64_t now_us() {
  return std::chrono::duration_cast<std::chrono::microseconds>(
             net::Clock::now().time_since_epoch())
      .count();
}

}  // namespace

Context::Context(ContextOptions options)
    : options_(options),
      demand_pool_("page-in", options.demand_threads, Weight::normal),
      background_pool_("background", options.background_threads, Weight::low) {}

Context::~Context() { stop(); }

void Context::stop() {
  background_pool_.stop();
  demand_pool_.stop();
}

std::unique_ptr<codec::SpanStream> Context::take_decoder() {
  {
    MutexLock lock(mutex_);
    if (!decoders_.empty()) {
      auto decoder = std::move(decoders_.back());
      decoders_.pop_back();
      return decoder;
    }
  }
  return std::make_unique<codec::SpanStream>();
}

void Context::give_back(std::unique_ptr<codec::SpanStream> decoder) {
  MutexLock lock(mutex_);
  if (decoder != nullptr && decoders_.size() < kKeptDecoders) decoders_.push_back(std::move(decoder));
}

void Context::demand_ends() {
  demand_ended_us_.store(now_us(), std::memory_order_relaxed);
  demand_active_.fetch_sub(1);
}

bool Context::demand_busy() const {
  return demand_active_.load() > 0 ||
         now_us() - demand_ended_us_.load(std::memory_order_relaxed) < kDemandLingerUs;
}

}  // namespace pagein::fetch
