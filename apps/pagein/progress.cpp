#include "apps/pagein/progress.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "apps/pagein/commands.h"

namespace pagein::cli {
namespace {
constexpr std::chrono::milliseconds kRedraw{100};
// More lines than this scroll away and cannot be drawn over.
constexpr size_t kMaxLines = 20;
}  // namespace

Progress::Progress(Style style)
    : silent_(style == Style::silent), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  MutexLock lock(mutex_);
  if (!silent_ && terminal_ && !parts_.empty()) draw();
}

void Progress::begin(std::vector<std::pair<std::string, uint64_t>> parts) {
  MutexLock lock(mutex_);
  for (auto& [label, total] : parts) parts_.push_back({std::move(label), total, 0, {}, ""});
}

void Progress::update(size_t part, uint64_t bytes) {
  MutexLock lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  Part& p = parts_[part];
  if (p.bytes == 0) p.begin = now;
  p.bytes = bytes;
  if (!silent_ && terminal_ && now - last_draw_ >= kRedraw) {
    last_draw_ = now;
    draw();
  }
}

void Progress::done(size_t part, const std::string& outcome) {
  MutexLock lock(mutex_);
  parts_[part].outcome = outcome;
  if (silent_) return;
  if (terminal_) draw();
  else std::fprintf(stderr, "%s\n", line(parts_[part]).c_str());
}

std::string Progress::line(const Part& part) const {
  std::string text = part.label + "  " + human_bytes(part.total) + "  ";
  if (!part.outcome.empty()) return text + part.outcome;
  if (part.bytes == 0) return text + "waiting";
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - part.begin).count();
  const double rate = seconds > 0.05 ? static_cast<double>(part.bytes) / seconds : 0;
  char numbers[96];
  const double share =
      part.total == 0 ? 1 : static_cast<double>(part.bytes) / static_cast<double>(part.total);
  if (rate > 0) {
    std::snprintf(numbers, sizeof numbers, "%3.0f%%  %s/s  %.0f s left", share * 100,
                  human_bytes(static_cast<uint64_t>(rate)).c_str(),
                  static_cast<double>(part.total - std::min(part.total, part.bytes)) / rate);
  } else {
    std::snprintf(numbers, sizeof numbers, "%3.0f%%", share * 100);
  }
  return text + numbers;
}

// Finished parts beyond the first screen are counted, not shown.
void Progress::draw() {
  if (drawn_ > 0) std::fprintf(stderr, "\x1b[%zuA", drawn_);
  size_t lines = 0;
  const size_t skip = parts_.size() > kMaxLines ? parts_.size() - kMaxLines : 0;
  size_t hidden = 0;
  for (const Part& part : parts_) {
    if (hidden < skip && (!part.outcome.empty() || part.bytes == 0)) {
      ++hidden;
      continue;
    }
    std::fprintf(stderr, "\x1b[2K%s\n", line(part).c_str());
    ++lines;
  }
  std::fprintf(stderr, "\x1b[J");
  drawn_ = lines;
}

}  // namespace pagein::cli
