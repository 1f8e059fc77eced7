#include "convert/encode_pool.h"

#include "base/guard.h"

namespace pagein::convert {

Result<std::unique_ptr<EncodePool>> EncodePool::make(
    const std::vector<codec::ChunkEncoderOptions>& encodings, size_t threads) {
  if (encodings.empty() || encodings.size() > kMaxTargets) {
    return Error(Code::invalid_argument, "one or two encodings are made at once");
  }
  std::unique_ptr<EncodePool> pool(new EncodePool());
  std::vector<Encoders> all(std::max<size_t>(threads, 1));
  for (Encoders& encoders : all) {
    for (const codec::ChunkEncoderOptions& options : encodings) {
      ASSIGN_OR_RETURN(auto encoder, codec::make_chunk_encoder(options));
      encoders.push_back(std::move(encoder));
    }
  }
  for (const auto& encoder : all.front()) pool->settings_.push_back(encoder->settings());
  for (Encoders& encoders : all) {
    pool->threads_.emplace_back([p = pool.get(), own = std::move(encoders)]() mutable {
      guard("encode", [&] { p->work(own); });
    });
  }
  return pool;
}

EncodePool::~EncodePool() {
  {
    MutexLock lock(mutex_);
    stop_ = true;
    wake_.notify_all();
  }
  for (std::thread& thread : threads_) thread.join();
}

void EncodePool::submit(ChunkLine* line, Chunk* chunk) {
  line->submit(chunk);
  MutexLock lock(mutex_);
  jobs_.push_back({line, chunk});
  wake_.notify_one();
}

void EncodePool::work(Encoders& encoders) {
  for (;;) {
    Job job{};
    {
      MutexLock lock(mutex_);
      while (jobs_.empty() && !stop_) wake_.wait(mutex_);
      if (jobs_.empty()) return;
      job = jobs_.front();
      jobs_.pop_front();
    }
    encode_chunk(encoders, job.chunk);
    job.line->done(job.chunk);
  }
}

void encode_chunk(const std::vector<std::unique_ptr<codec::ChunkEncoder>>& encoders, Chunk* chunk) {
  chunk->digest = sha256(chunk->tar);
  chunk->status = {};
  for (size_t i = 0; i < encoders.size() && chunk->status.ok(); ++i) {
    chunk->status = encoders[i]->encode(chunk->tar, chunk->encoded[i]);
  }
}

}  // namespace pagein::convert
