#include "store/layer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "store/layer_files.h"

namespace pagein::store {

Layer::Layer(std::string id, std::shared_ptr<const index::LayerIndex> index, Files files,
             LayerState state, std::unique_ptr<Presence> presence)
    : id_(std::move(id)),
      index_(std::move(index)),
      rest_layout_(*index_),
      files_(std::move(files)),
      presence_(std::move(presence)),
      complete_(state.complete),
      quarantined_(!state.quarantined.empty()),
      state_(std::move(state)),
      durable_(presence_->snapshot()) {}

Layer::~Layer() {
  // What is not synced now is not claimed at the next start.
  if (files_.meter) files_.meter->settled(unsynced_.load());
  note_use(files_.dir);
}

std::string Layer::quarantine_reason() const {
  MutexLock lock(mutex_);
  return state_.quarantined;
}

std::pair<size_t, size_t> Layer::spans_of(uint64_t data_offset, uint64_t length) const {
  const auto range = index_->layout.tar_range(data_offset, length);
  if (!range || range->begin >= range->end) return {0, 0};
  return {index_->span_at(range->begin), index_->span_at(range->end - 1) + 1};
}

bool Layer::has_data(uint64_t data_offset, uint64_t length) const {
  if (complete()) return true;
  const auto [first, last] = spans_of(data_offset, length);
  return presence_->first_missing(first, last) == last;
}

Status Layer::write_span(size_t span, ByteView tar) {
  if (complete() || presence_->test(span)) return {};
  if (files_.space && !files_.space->admit(tar.size())) {
    return Error(Code::exhausted,
                 "the store has its limit of " + std::to_string(files_.space->limit()) + " bytes");
  }
  Status written = write_claimed(span, tar);
  if (!written.ok() && files_.space) {
    files_.space->freed(tar.size());
    if (written.error().code == Code::exhausted) files_.space->call_for_room();
  }
  return written;
}

Status Layer::write_claimed(size_t span, ByteView tar) {
  const uint64_t failed_before = failed_syncs_.load();
  ASSIGN_OR_RETURN(const SpanSum sum, write_span_bytes(*index_, rest_layout_, span, tar,
                                                       {files_.data.get(), files_.rest.get()}));
  RETURN_IF_ERROR(pwrite_full(files_.sums.get(), sum, span * sum.size()));
  presence_->set(span);
  if (files_.meter) files_.meter->wrote(tar.size());  // before a sync may settle it
  unsynced_.fetch_add(tar.size());
  if (failed_syncs_.load() != failed_before) {
    // The sync that failed may have been that of these bytes.
    presence_->drop(span);
    return Error(Code::unavailable, "the disk failed while layer " + id_ + " was written");
  }
  return {};
}

void Layer::drop_span(size_t span) {
  MutexLock lock(mutex_);
  drop_claim(span);
}

void Layer::drop_claim(size_t span) {
  presence_->drop(span);
  durable_[span / 64] &= ~(uint64_t{1} << (span % 64));
}

Status Layer::read_span(size_t span, std::span<uint8_t> out) const {
  return read_span_bytes(*index_, rest_layout_, span, out, {files_.data.get(), files_.rest.get()});
}

Status Layer::read_data(uint64_t data_offset, std::span<uint8_t> out) const {
  return pread_full(files_.data.get(), out, data_offset);
}

Status Layer::sync_files() const {
  for (const UniqueFd* fd : {&files_.data, &files_.rest, &files_.sums}) {
    if (::fdatasync(fd->get()) != 0) return errno_error(errno, "sync layer " + id_);
  }
  return {};
}

Status Layer::make_durable(Presence::Stop stop) {
  // In this order: a span that is claimed meanwhile is counted, or covered.
  const uint64_t covered = unsynced_.exchange(0);
  // The claims are copied first: what is set later may not be durable yet.
  std::vector<uint64_t> words = presence_->snapshot();
  if (Status status = sync_files(); !status.ok()) {
    take_back_claims();
    if (files_.meter) files_.meter->settled(covered);
    return status;
  }
  Status saved = Presence::save(files_.dir / kPresentFile, presence_->size(), words, stop);
  if (!saved.ok()) {
    unsynced_.fetch_add(covered);
    return saved;
  }
  durable_ = std::move(words);
  if (files_.meter) files_.meter->settled(covered);
  return {};
}

void Layer::take_back_claims() {
  failed_syncs_.fetch_add(1);  // first: see write_span()
  for (size_t span = 0; span < presence_->size(); ++span) {
    if ((durable_[span / 64] >> (span % 64) & 1) == 0) presence_->drop(span);
  }
}

Status Layer::sync() {
  MutexLock lock(mutex_);
  return make_durable(Presence::Stop::unclean);
}

Status Layer::close_cleanly() {
  MutexLock lock(mutex_);
  return make_durable(Presence::Stop::clean);
}

Status Layer::write_state(const LayerState& state) {
  const std::string text = format_state(state);
  return replace_file(files_.dir / kStateFile, as_bytes(text), 0600);
}

Status Layer::mark_complete() {
  MutexLock lock(mutex_);
  if (state_.complete) return {};
  if (!presence_->full()) {
    return Error(Code::failed_precondition, "layer " + id_ + " is not complete yet");
  }
  RETURN_IF_ERROR(make_durable(Presence::Stop::unclean));
  LayerState next = state_;
  next.complete = true;
  RETURN_IF_ERROR(write_state(next));
  state_ = std::move(next);
  complete_.store(true, std::memory_order_release);
  // Only the proof of the diffID needed the rest.
  if (::ftruncate(files_.rest.get(), 0) != 0)
    return errno_error(errno, "truncate " + id_ + "/rest");
  return {};
}

Status Layer::quarantine(std::string_view reason) {
  MutexLock lock(mutex_);
  LayerState next = state_;
  next.quarantined = reason;
  state_ = next;  // in memory even where the disk refuses
  quarantined_.store(true, std::memory_order_release);
  return write_state(next);
}

// Whether the data file holds what was written for a claimed span.
Result<bool> Layer::sum_is_right(size_t span) const {
  SpanSum stored;
  const Status read = pread_full(files_.sums.get(), stored, span * stored.size());
  if (!read.ok() && read.error().code != Code::corrupt_input) return read.error();
  ASSIGN_OR_RETURN(const SpanSum found, sum_span_bytes(*index_, span, files_.data.get()));
  return read.ok() && found == stored;
}

Result<size_t> Layer::scrub() {
  size_t dropped = 0;
  for (size_t span = 0; span < presence_->size(); ++span) {
    if (!presence_->test(span)) continue;
    ASSIGN_OR_RETURN(const bool right, sum_is_right(span));
    if (right) continue;
    drop_span(span);
    ++dropped;
  }
  RETURN_IF_ERROR(reload_if_damaged(dropped));
  return dropped;
}

Result<size_t> Layer::scrub_holes() {
  size_t dropped = 0;
  size_t checked = 0;  // spans below were looked at
  off_t data = 0;
  for (;;) {
    const off_t hole = ::lseek(files_.data.get(), data, SEEK_HOLE);
    if (hole < 0 || static_cast<uint64_t>(hole) >= data_size()) break;
    data = ::lseek(files_.data.get(), hole, SEEK_DATA);
    // ENXIO: it is a hole up to the end.
    const uint64_t end = data < 0 ? data_size() : static_cast<uint64_t>(data);
    const auto [first, last] =
        spans_of(static_cast<uint64_t>(hole), end - static_cast<uint64_t>(hole));
    for (size_t span = std::max(first, checked); span < last; ++span) {
      if (!presence_->test(span)) continue;
      ASSIGN_OR_RETURN(const bool right, sum_is_right(span));
      if (right) continue;  // zeros that the file system does not store
      drop_span(span);
      ++dropped;
    }
    checked = std::max(checked, last);
    if (data < 0) break;
  }
  RETURN_IF_ERROR(reload_if_damaged(dropped));
  return dropped;
}

Status Layer::reload_if_damaged(size_t dropped) {
  if (dropped == 0) return {};
  // A full disk is no reason not to serve: what cannot be recorded now stays
  // recorded as unclean, and is checked again at the next start.
  auto unless_full = [](Status status) {
    return !status.ok() && status.error().code == Code::exhausted ? Status() : status;
  };
  MutexLock lock(mutex_);
  // A complete layer that lost spans goes back to being loaded; what the
  // proof needs of the intact spans is gone, so all of it is fetched again.
  if (state_.complete) {
    LayerState next = state_;
    next.complete = false;
    RETURN_IF_ERROR(unless_full(write_state(next)));
    state_ = std::move(next);
    complete_.store(false, std::memory_order_release);
    for (size_t span = 0; span < presence_->size(); ++span) drop_claim(span);
  }
  return unless_full(make_durable(Presence::Stop::unclean));
}

uint64_t Layer::disk_usage() const {
  uint64_t blocks = 0;
  for (const UniqueFd* fd : {&files_.data, &files_.rest, &files_.sums}) {
    struct stat st;
    if (fd->valid() && ::fstat(fd->get(), &st) == 0) blocks += static_cast<uint64_t>(st.st_blocks);
  }
  return blocks * 512;
}

}  // namespace pagein::store
