// The SpanIndexer of gzip layers.
#pragma once

#include <cstdint>
#include <optional>

#include "codec/checkpoint_payload.h"
#include "codec/member_decoder.h"
#include "codec/span_indexer.h"

namespace pagein::codec {

// Accepts what gzip(1) and Go's compress/gzip both do, and zero padding after
// the last member (which gzip accepts): one member or more, each with a
// correct CRC32 and length; then zeros or nothing. Any other byte behind a
// member is corrupt_input, as in Go.
//
// Where checkpoints are put: a member's start is free, so it is taken when it
// comes at least `earliest()` behind the last checkpoint. Of the block boundaries
// between `earliest()` and `latest()`, the one with the fewest bytes of window
// referred to. If there is none, the next one; if none comes within twice the
// spacing, a place inside the block.
//
// Invariants: output is given to the sink only up to the candidate that is not
// decided yet; the window before a pending candidate stays in the buffer.
class GzipIndexer final : public SpanIndexer {
 public:
  GzipIndexer(const IndexOptions& options, IndexSink& sink);
  Status feed(ByteView compressed) override;
  Result<IndexSummary> finish() override;

 private:
  enum class Place { before_member, member, padding };
  // A checkpoint that may be taken.
  struct Candidate {
    uint64_t offset = 0;
    uint64_t bit = 0;
    CheckpointKind kind = CheckpointKind::block_boundary;
    CheckpointPayload payload;  // its window only when the references have been gathered
  };

  Result<bool> between_members();
  Status on_event(MemberDecoder::Event event);
  Status on_limit();
  Status on_member_end();

  const uint8_t* limit(Inflater::Tail& tail);
  void consider(CheckpointKind kind, uint64_t bit);
  void begin_references(CheckpointKind kind, uint64_t bit);
  Status advance();
  void complete_pending();
  Status accept(Candidate candidate);
  uint64_t earliest() const;
  uint64_t latest() const;
  void adapt(uint64_t compressed);
  Status flush(uint64_t until);
  void update_crc();

  const uint64_t spacing_;
  uint64_t wanted_;  // distance; the spacing, or more where payloads are dear
  IndexSink& sink_;

  BitInput input_;
  OutputBuffer output_;
  MemberDecoder member_;
  PayloadPacker packer_;
  Place place_ = Place::before_member;

  uint64_t last_ = 0;                 // offset of the last checkpoint taken
  bool any_ = false;                  // one was taken
  std::optional<Candidate> pending_;  // its references are being gathered
  std::optional<Candidate> best_;     // the cheapest so far

  uint64_t flushed_ = 0;       // offset up to which the sink has the output
  uint64_t crc_done_ = 0;      // offset up to which crc_ goes
  uint64_t member_start_ = 0;  // offset where the member's data began
  uint32_t crc_ = 0;
  IndexSummary summary_;
};

}  // namespace pagein::codec
