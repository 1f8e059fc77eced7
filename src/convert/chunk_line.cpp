#include "convert/chunk_line.h"

namespace pagein::convert {

Chunk* ChunkLine::take_free() {
  MutexLock lock(mutex_);
  while (free_.empty() && slots_.size() >= chunks_ && !abandoned_) wake_.wait(mutex_);
  if (abandoned_) return nullptr;
  if (free_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    return slots_.back().get();
  }
  Slot* slot = free_.back();
  free_.pop_back();
  return slot;
}

void ChunkLine::submit(Chunk* chunk) {
  Slot* slot = static_cast<Slot*>(chunk);
  MutexLock lock(mutex_);
  slot->is_done = false;
  line_.push_back(slot);
}

void ChunkLine::close() {
  MutexLock lock(mutex_);
  closed_ = true;
  wake_.notify_all();
}

void ChunkLine::done(Chunk* chunk) {
  MutexLock lock(mutex_);
  static_cast<Slot*>(chunk)->is_done = true;
  wake_.notify_all();
}

Chunk* ChunkLine::take_done() {
  MutexLock lock(mutex_);
  for (;;) {
    if (!line_.empty() && line_.front()->is_done) break;
    if (line_.empty() && closed_) return nullptr;
    wake_.wait(mutex_);
  }
  Slot* slot = line_.front();
  line_.pop_front();
  return slot;
}

void ChunkLine::give_back(Chunk* chunk) {
  Slot* slot = static_cast<Slot*>(chunk);
  slot->tar.clear();
  MutexLock lock(mutex_);
  free_.push_back(slot);
  wake_.notify_all();
}

void ChunkLine::abandon() {
  MutexLock lock(mutex_);
  abandoned_ = true;
  wake_.notify_all();
}

}  // namespace pagein::convert
