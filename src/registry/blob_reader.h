// Pulls a blob (or the rest of one) from a BlobSource in order: the blocking
// side of it, for whoever decodes or copies a whole layer.
#pragma once

#include <memory>

#include "base/byte_stream.h"
#include "registry/blob_source.h"

namespace pagein::registry {

struct BlobReaderOptions {
  net::Priority priority = net::Priority::background;
  size_t queue_bytes = 4 << 20;  // paused beyond this; what is held stays near it
  net::Clock::time_point deadline = net::Clock::time_point::max();
};

// One consumer thread; not the source's own threads. Connection losses are
// resumed by the source, so the bytes come as if from one stream. Not verified.
class BlobReader : public ByteStream {
 public:
  BlobReader(std::shared_ptr<BlobSource> source, const oci::Digest& digest, uint64_t blob_size,
             uint64_t offset = 0, BlobReaderOptions options = {});
  ~BlobReader() override;  // cancels what is left
  BlobReader(const BlobReader&) = delete;
  BlobReader& operator=(const BlobReader&) = delete;

  // Blocks until bytes, the end (0) or an error. `out` not empty.
  Result<size_t> read(std::span<uint8_t> out) override;
  // From any thread: a read that waits, and all later ones, end with cancelled.
  void cancel();

 private:
  class Queue;
  std::shared_ptr<BlobSource> source_;
  std::shared_ptr<Queue> queue_;
  ReadId id_ = 0;
};

// Passes a stream through and checks size and digest at its end: the last
// read() returns corrupt_input instead of 0 where they differ, and bytes
// beyond `size` are refused as soon as they show.
class VerifyingStream : public ByteStream {
 public:
  VerifyingStream(std::unique_ptr<ByteStream> inner, const oci::Digest& digest, uint64_t size);
  Result<size_t> read(std::span<uint8_t> out) override;

 private:
  std::unique_ptr<ByteStream> inner_;
  oci::Digest digest_;
  uint64_t size_;
  uint64_t seen_ = 0;
  Sha256 hash_;
  Status end_;
  bool ended_ = false;
};

}  // namespace pagein::registry
