#include "mount/fuse_session.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "mount/splice_pipe.h"

namespace pagein::mount {
namespace {

// Requests a thread handles for one connection before it looks at the others.
constexpr int kBatch = 64;

// From here on splicing a file costs less CPU than reading and writing it (a
// third less at 256 KiB; equal at 4 KiB).
constexpr uint32_t kSpliceFrom = 32 << 10;

// More than a directory listing that the kernel asks for.
constexpr uint32_t kMaxListing = 64 << 10;

// The session that this thread drains; other threads reply, too.
thread_local const FuseSession* draining = nullptr;

std::shared_ptr<FuseNodes> nodes_of(const FuseConnectionOptions& options) {
  if (options.nodes) return options.nodes;
  return make_device_nodes(
      options.files, options.caching == FuseCaching::none ? FOPEN_DIRECT_IO : FOPEN_KEEP_CACHE);
}

}  // namespace

FuseSession::FuseSession(UniqueFd fd, FuseConnectionOptions options, std::function<void()> resume)
    : fd_(std::move(fd)),
      options_(std::move(options)),
      nodes_(nodes_of(options_)),
      resume_(std::move(resume)) {}

FuseSession::~FuseSession() = default;

// ---- Reading requests ----

FuseSession::Drained FuseSession::drain(std::span<uint8_t> buffer) {
  draining = this;
  for (int i = 0; i < kBatch;) {
    if (over_cap()) {
      paused_.store(true);
      // A reply between the check and the store would not have resumed us.
      if (over_cap() || !paused_.exchange(false)) return Drained::paused;
    }
    const ssize_t n = ::read(fd_.get(), buffer.data(), buffer.size());
    if (n >= 0) {
      handle(buffer.first(static_cast<size_t>(n)));
      ++i;
      continue;
    }
    switch (errno) {
      case EAGAIN: return Drained::idle;
      case EINTR:
      case ENOENT:  // the request was called off while we read it
        continue;
      default:  // ENODEV: unmounted; ECONNABORTED: aborted
        return Drained::ended;
    }
  }
  return Drained::more;
}

void FuseSession::handle(ByteView bytes) {
  requests_.fetch_add(1, std::memory_order_relaxed);
  Result<FuseRequest> request = parse_fuse_request(bytes);
  if (!request.ok()) {
    malformed_.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (request->unique & kFuseUniqueResend) resent_.fetch_add(1, std::memory_order_relaxed);
  dispatch(*request);
}

void FuseSession::dispatch(const FuseRequest& request) {
  switch (request.opcode) {
    case FUSE_INIT: return init(request);
    case FUSE_LOOKUP: return lookup(request);
    case FUSE_GETATTR: return getattr(request);
    case FUSE_OPEN: return open(request);
    case FUSE_READ: return read(request);
    case FUSE_OPENDIR: return open_directory(request);
    case FUSE_READDIR: return readdir(request, FuseNodes::Listing::names);
    case FUSE_READDIRPLUS: return readdir(request, FuseNodes::Listing::with_attributes);
    case FUSE_STATFS: return statfs(request);
    case FUSE_READLINK: return readlink(request);
    case FUSE_GETXATTR: return getxattr(request);
    case FUSE_LISTXATTR: return listxattr(request);
    case FUSE_LSEEK: return seek(request);
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_DESTROY: return reply_ok(request.unique);
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET: return;  // no answer is expected; nodes are never forgotten
    default:
      // ENOSYS is remembered by the kernel for FLUSH, ACCESS, INTERRUPT (F4) and
      // most others: they are not sent again.
      return reply_error(request.unique, ENOSYS);
  }
}

void FuseSession::init(const FuseRequest& request) {
  Result<fuse_init_in> in = parse_fuse_init(request);
  if (!in.ok() || in->major < FUSE_KERNEL_VERSION) {
    malformed_.fetch_add(1, std::memory_order_relaxed);
    return reply_error(request.unique, EPROTO);
  }
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = FUSE_KERNEL_MINOR_VERSION;
  // A kernel with a newer major version asks again with ours.
  if (in->major > FUSE_KERNEL_VERSION) return reply(request.unique, out);

  const uint64_t offered = in->flags | uint64_t{in->flags2} << 32;
  constexpr uint64_t kWanted = FUSE_ASYNC_READ | FUSE_MAX_PAGES | FUSE_ASYNC_DIO |
                               FUSE_PARALLEL_DIROPS | FUSE_INIT_EXT | kFuseHasResend;
  const uint64_t flags = offered & (kWanted | nodes_->init_flags());
  out.flags = static_cast<uint32_t>(flags);
  out.flags2 = static_cast<uint32_t>(flags >> 32);
  out.max_readahead = std::max(in->max_readahead, kMaxReadBytes);
  out.max_write = kMaxWriteBytes;
  out.max_pages = static_cast<uint16_t>(kMaxReadBytes / 4096);
  // The default of 12 would let 12 slow reads stall all others.
  out.max_background = 2048;
  out.congestion_threshold = 2048;
  out.time_gran = 1;
  {
    MutexLock lock(mutex_);
    state_.protocol_minor = in->minor;
    state_.init_flags = offered;
  }
  reply(request.unique, out);
  changed_.notify_all();
}

// ---- Names and attributes ----

void FuseSession::lookup(const FuseRequest& request) {
  Result<std::string_view> name = parse_fuse_name(request);
  if (!name.ok()) return reply_error(request.unique, ENOENT);
  fuse_entry_out out{};
  const int error = nodes_->lookup(request.node, *name, out);
  if (error != 0) return reply_error(request.unique, error);
  reply(request.unique, out);
}

void FuseSession::getattr(const FuseRequest& request) {
  fuse_attr_out out{};
  const int error = nodes_->attributes(request.node, out.attr);
  if (error != 0) return reply_error(request.unique, error);
  out.attr_valid = kFuseForever;
  reply(request.unique, out);
}

void FuseSession::open(const FuseRequest& request) {
  Result<fuse_open_in> in = parse_fuse_argument<fuse_open_in>(request);
  if (!in.ok()) return reply_error(request.unique, EINVAL);
  if ((in->flags & O_ACCMODE) != O_RDONLY) return reply_error(request.unique, EROFS);
  fuse_open_out out{};
  const int error = nodes_->open(request.node, out);
  if (error != 0) return reply_error(request.unique, error);
  reply(request.unique, out);
}

void FuseSession::open_directory(const FuseRequest& request) {
  fuse_open_out out{};
  const int error = nodes_->open_directory(request.node, out);
  if (error != 0) return reply_error(request.unique, error);
  reply(request.unique, out);
}

void FuseSession::readdir(const FuseRequest& request, FuseNodes::Listing listing) {
  Result<fuse_read_in> in = parse_fuse_argument<fuse_read_in>(request);
  if (!in.ok()) return reply_error(request.unique, EINVAL);
  in->size = std::min(in->size, kMaxListing);
  Bytes out;
  const int error = nodes_->read_directory(request.node, *in, listing, out);
  if (error != 0) return reply_error(request.unique, error);
  send(request.unique, 0, out);
}

void FuseSession::statfs(const FuseRequest& request) {
  fuse_statfs_out out{};
  nodes_->statfs(out.st);
  reply(request.unique, out);
}

void FuseSession::readlink(const FuseRequest& request) {
  std::string_view target;
  const int error = nodes_->read_link(request.node, target);
  if (error != 0) return reply_error(request.unique, error);
  send(request.unique, 0, as_bytes(target));
}

void FuseSession::getxattr(const FuseRequest& request) {
  Result<fuse_getxattr_in> in = parse_fuse_argument<fuse_getxattr_in>(request);
  if (!in.ok()) return reply_error(request.unique, EINVAL);
  const std::string_view rest = as_text(request.body.subspan(sizeof *in));
  const size_t end = rest.find('\0');
  if (end == std::string_view::npos) return reply_error(request.unique, EINVAL);
  std::string_view value;
  const int error = nodes_->xattr(request.node, rest.substr(0, end), value);
  if (error != 0) return reply_error(request.unique, error);
  reply_xattr(request.unique, in->size, value);
}

void FuseSession::listxattr(const FuseRequest& request) {
  Result<fuse_getxattr_in> in = parse_fuse_argument<fuse_getxattr_in>(request);
  if (!in.ok()) return reply_error(request.unique, EINVAL);
  std::string names;
  const int error = nodes_->xattr_names(request.node, names);
  if (error != 0) return reply_error(request.unique, error);
  reply_xattr(request.unique, in->size, names);
}

void FuseSession::reply_xattr(uint64_t unique, uint32_t room, std::string_view value) {
  if (room == 0) {
    fuse_getxattr_out out{};
    out.size = static_cast<uint32_t>(value.size());
    return reply(unique, out);
  }
  if (value.size() > room) return reply_error(unique, ERANGE);
  send(unique, 0, as_bytes(value));
}

void FuseSession::seek(const FuseRequest& request) {
  Result<fuse_lseek_in> in = parse_fuse_argument<fuse_lseek_in>(request);
  if (!in.ok()) return reply_error(request.unique, EINVAL);
  fuse_lseek_out out{};
  const int error = nodes_->seek(request.node, in->offset, in->whence, out.offset);
  if (error != 0) return reply_error(request.unique, error);
  reply(request.unique, out);
}

// ---- Reads ----

void FuseSession::read(const FuseRequest& request) {
  Result<fuse_read_in> in = parse_fuse_argument<fuse_read_in>(request);
  if (!in.ok() || in->size > kMaxReadBytes) return reply_error(request.unique, EINVAL);
  const std::optional<uint64_t> size = nodes_->file_size(request.node);
  if (!size) return reply_error(request.unique, EBADF);
  if (in->offset >= *size || in->size == 0) return reply_ok(request.unique);  // end of file
  const uint32_t length = static_cast<uint32_t>(std::min<uint64_t>(in->size, *size - in->offset));

  reads_.fetch_add(1, std::memory_order_relaxed);
  in_flight_.fetch_add(1);
  in_flight_bytes_.fetch_add(length);
  nodes_->read(request.node, in->offset, ReadReply(shared_from_this(), request.unique, length));
}

bool FuseSession::over_cap() const {
  return in_flight_.load() >= options_.max_in_flight_reads ||
         in_flight_bytes_.load() >= options_.max_in_flight_bytes;
}

void FuseSession::read_done(uint32_t length) {
  const uint64_t reads = in_flight_.fetch_sub(1) - 1;
  const uint64_t bytes = in_flight_bytes_.fetch_sub(length) - length;
  // Resume with some room, so that a full session does not stop at each request.
  if (paused_.load() && reads <= options_.max_in_flight_reads / 4 * 3 &&
      bytes <= options_.max_in_flight_bytes / 4 * 3 && paused_.exchange(false)) {
    resume_();
  }
}

void FuseSession::finish_data(uint64_t unique, uint32_t length, std::span<const ByteView> pieces) {
  ByteView shortened;
  if (options_.fault == FuseConnectionOptions::Fault::short_reads && pieces.size() == 1) {
    shortened = pieces[0].first(length - 1);
    pieces = {&shortened, 1};
  }
  read_bytes_.fetch_add(length, std::memory_order_relaxed);
  read_done(length);  // first: whoever has the answer sees it counted
  send_pieces(unique, 0, pieces);
}

void FuseSession::finish_file(uint64_t unique, uint32_t length, int fd, uint64_t offset) {
  if (length >= kSpliceFrom) {
    before_waiting();
    if (splice_file(unique, length, fd, offset)) return;
  }
  // One buffer per thread that replies, at most kMaxReadBytes.
  thread_local Bytes buffer;
  if (buffer.size() < length) buffer.resize(length);
  const std::span<uint8_t> bytes = std::span(buffer).first(length);
  const iovec vector{bytes.data(), bytes.size()};
  const ssize_t cached = ::preadv2(fd, &vector, 1, static_cast<off_t>(offset), RWF_NOWAIT);
  if (cached != static_cast<ssize_t>(length)) {
    before_waiting();
    if (!pread_full(fd, bytes, offset).ok()) return finish_error(unique, length, EIO);
  }
  const ByteView view = bytes;
  finish_data(unique, length, {&view, 1});
}

void FuseSession::before_waiting() const {
  if (draining == this) resume_();
}

bool FuseSession::splice_file(uint64_t unique, uint32_t length, int fd, uint64_t offset) {
  SplicePipe& pipe = SplicePipe::of_thread();
  if (options_.fault != FuseConnectionOptions::Fault::none || !pipe.fits(length)) return false;
  fuse_out_header header{};
  header.unique = unique;
  header.len = static_cast<uint32_t>(sizeof header + length);
  const ByteView bytes(reinterpret_cast<const uint8_t*>(&header), sizeof header);
  if (!pipe.send(fd_.get(), bytes, fd, offset, length)) return false;
  read_bytes_.fetch_add(length, std::memory_order_relaxed);
  read_done(length);
  return true;
}

void FuseSession::finish_error(uint64_t unique, uint32_t length, int error) {
  read_errors_.fetch_add(1, std::memory_order_relaxed);
  read_done(length);
  reply_error(unique, nodes_->read_error(error));
}

bool FuseSession::send_pieces(uint64_t unique, int error, std::span<const ByteView> pieces) {
  std::array<iovec, 1 + ReadReply::kMaxPieces> vectors;
  fuse_out_header header{};
  header.unique = unique;
  header.error = -error;
  size_t total = sizeof header;
  size_t count = 0;
  vectors[count++] = {&header, sizeof header};
  for (const ByteView& piece : pieces) {
    if (piece.empty()) continue;
    vectors[count++] = {const_cast<uint8_t*>(piece.data()), piece.size()};
    total += piece.size();
  }
  header.len = static_cast<uint32_t>(total);
  ssize_t n;
  do {
    n = ::writev(fd_.get(), vectors.data(), static_cast<int>(count));
  } while (n < 0 && errno == EINTR);
  // ENOENT: the request was called off, or resent to a successor under another
  // id; ENODEV: the connection is gone. Nobody waits for this answer then.
  return n == static_cast<ssize_t>(total);
}

// ---- State ----

void FuseSession::end() {
  {
    MutexLock lock(mutex_);
    if (ended_.exchange(true)) return;
  }
  changed_.notify_all();
  if (options_.on_end) options_.on_end();
}

Status FuseSession::wait_ended(std::chrono::milliseconds timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(mutex_);
  while (!ended_.load()) {
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout && !ended_.load()) {
      return Error(Code::timeout, "FUSE connection '" + options_.name + "' is still in use");
    }
  }
  return {};
}

Status FuseSession::wait_ready(std::chrono::milliseconds timeout) const {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(mutex_);
  while (state_.protocol_minor == 0) {
    if (ended_.load()) {
      return Error(Code::unavailable, "FUSE connection '" + options_.name + "' ended at its start");
    }
    if (changed_.wait_until(mutex_, deadline) == std::cv_status::timeout &&
        state_.protocol_minor == 0) {
      return Error(Code::timeout,
                   "the kernel did not start FUSE connection '" + options_.name + "' in time");
    }
  }
  return {};
}

Status FuseSession::resume_from(const FuseSessionState& state) {
  if (state.protocol_minor == 0) {
    return Error(Code::failed_precondition,
                 "FUSE connection '" + options_.name + "' had not started when its server died");
  }
  if (!state.can_resend()) {
    return Error(Code::unsupported, "this kernel cannot send FUSE requests again (needs 6.9)");
  }
  {
    MutexLock lock(mutex_);
    state_ = state;
  }
  fuse_out_header header{};
  header.len = sizeof header;
  header.error = kFuseNotifyResend;  // unique 0: a notification
  const ssize_t n = ::write(fd_.get(), &header, sizeof header);
  if (n != static_cast<ssize_t>(sizeof header)) {
    return errno_error(
        errno, "ask the kernel for the requests of FUSE connection '" + options_.name + "' again");
  }
  return {};
}

void FuseSession::set_connection(uint32_t number) {
  MutexLock lock(mutex_);
  state_.connection = number;
}

FuseSessionState FuseSession::state() const {
  MutexLock lock(mutex_);
  return state_;
}

FuseStats FuseSession::stats() const {
  FuseStats stats;
  stats.requests = requests_.load(std::memory_order_relaxed);
  stats.reads = reads_.load(std::memory_order_relaxed);
  stats.read_bytes = read_bytes_.load(std::memory_order_relaxed);
  stats.read_errors = read_errors_.load(std::memory_order_relaxed);
  stats.in_flight = in_flight_.load();
  stats.in_flight_bytes = in_flight_bytes_.load();
  stats.malformed = malformed_.load(std::memory_order_relaxed);
  stats.resent = resent_.load(std::memory_order_relaxed);
  return stats;
}

}  // namespace pagein::mount
