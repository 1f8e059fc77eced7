// One layer in the store: verified pieces of its tar, readable as the layer's
// data file (docs/formats/store.md).
#pragma once

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "index/layer_index.h"
#include "store/presence.h"
#include "store/space_meter.h"
#include "store/span_io.h"
#include "store/sync_meter.h"

namespace pagein::store {

// What is durable about a layer besides its bytes ("state.json").
struct LayerState {
  // Every span is present, and the whole tar was hashed and has the diffID.
  bool complete = false;
  // Not empty: the layer must not be served; the text says why.
  std::string quarantined;
};

// Thread-safe. Blocks on disk I/O. Offsets and lengths in bytes.
// Invariants:
//  L1 A span is claimed in memory only after its bytes are written; on disk
//     only after they are durable.
//  L2 The data file is always layout.data_size() long and is never punched or
//     truncated while the layer is open (a kernel mount may read it).
//  L3 complete is set only after the diffID was proven, and is durable after
//     all data is.
class Layer {
 public:
  // Files are made, opened and checked by LayerStore.
  struct Files {
    std::filesystem::path dir;
    UniqueFd data;  // file contents, as index::DataLayout places them
    UniqueFd rest;  // the tar's other bytes (headers, padding); empty once complete
    UniqueFd sums;  // a checksum a span of what is in `data`
    std::shared_ptr<SyncMeter> meter;   // counts what is written to them; may be null
    std::shared_ptr<SpaceMeter> space;  // says whether it may be; may be null
  };
  Layer(std::string id, std::shared_ptr<const index::LayerIndex> index, Files files,
        LayerState state, std::unique_ptr<Presence> presence);
  ~Layer();

  // Hex digest of the index head: the name of the layer in the store.
  const std::string& id() const { return id_; }
  const std::shared_ptr<const index::LayerIndex>& index() const { return index_; }
  std::filesystem::path data_path() const { return files_.dir / "data"; }
  int data_fd() const { return files_.data.get(); }
  uint64_t data_size() const { return index_->layout.data_size(); }

  const Presence& presence() const { return *presence_; }
  bool complete() const { return complete_.load(std::memory_order_acquire); }
  bool quarantined() const { return quarantined_.load(std::memory_order_acquire); }
  // Empty where the layer may be served.
  std::string quarantine_reason() const;

  // The spans that hold the data range: [first, last); empty where all of it
  // is zeros by the layout.
  std::pair<size_t, size_t> spans_of(uint64_t data_offset, uint64_t length) const;
  bool has_data(uint64_t data_offset, uint64_t length) const;

  // Keeps a span's tar bytes, which the caller has verified against
  // index().spans[span].digest, and claims it. exhausted where the disk is
  // full or the store has its limit: nothing is claimed and the layer stays as good as it was.
  Status write_span(size_t span, ByteView tar);
  // Takes a claim back: the span's bytes turned out not to be right.
  void drop_span(size_t span);
  // The span's tar bytes again, from data and rest. Precondition: present and
  // not complete.
  Status read_span(size_t span, std::span<uint8_t> out) const;
  // Precondition: has_data(range) or complete.
  Status read_data(uint64_t data_offset, std::span<uint8_t> out) const;

  // Makes everything claimed so far durable, then the claims. Where the disk
  // fails to, the claims since the last success are taken back (the kernel may
  // drop what it could not write, and read zeros later): fetch them again.
  Status sync();
  // The same at a clean stop: the next start need not check the bytes.
  Status close_cleanly();
  uint64_t unsynced_bytes() const { return unsynced_.load(std::memory_order_relaxed); }

  // Every span is present and the tar has its diffID: drops what only the
  // proof needed.
  Status mark_complete();
  // Never served again; kept so that nobody fetches it again and again.
  Status quarantine(std::string_view reason);

  // Compares every claimed span with its checksum and drops those that
  // differ (also from the durable map). Returns how many were dropped.
  Result<size_t> scrub();
  // The same for those spans only whose bytes in the data file lie in a hole: a
  // crash that loses writes leaves holes. Reads next to nothing; where the file
  // system does not tell holes, nothing is found.
  Result<size_t> scrub_holes();
  // Bytes on disk (allocated blocks), for usage reports.
  uint64_t disk_usage() const;

 private:
  Status write_claimed(size_t span, ByteView tar);
  Status write_state(const LayerState& state);
  Status make_durable(Presence::Stop stop) REQUIRES(mutex_);
  Status sync_files() const;
  Result<bool> sum_is_right(size_t span) const;
  Status reload_if_damaged(size_t dropped);
  void take_back_claims() REQUIRES(mutex_);
  void drop_claim(size_t span) REQUIRES(mutex_);

  const std::string id_;
  const std::shared_ptr<const index::LayerIndex> index_;
  const RestLayout rest_layout_;
  Files files_;
  std::unique_ptr<Presence> presence_;
  std::atomic<bool> complete_{false};
  std::atomic<bool> quarantined_{false};
  std::atomic<uint64_t> unsynced_{0};
  std::atomic<uint64_t> failed_syncs_{0};
  mutable Mutex mutex_;  // state and the order of syncs; held across their I/O
  LayerState state_ GUARDED_BY(mutex_);
  // Claims of the last sync, less those taken back since: what stays claimed
  // where the next sync fails.
  std::vector<uint64_t> durable_ GUARDED_BY(mutex_);
};

}  // namespace pagein::store
