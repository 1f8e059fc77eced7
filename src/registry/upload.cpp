#include "registry/upload.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <future>
#include <system_error>

#include "base/mutex.h"
#include "net/url.h"
#include "registry/async_response.h"
#include "registry/http_errors.h"

namespace pagein::registry {

namespace {

constexpr size_t kMinChunk = 64 << 10;
constexpr size_t kMaxChunk = 256 << 20;
constexpr int kStarts = 3;  // of one upload at the registry

class ChunkedUpload : public BlobWriter {
 public:
  ChunkedUpload(std::shared_ptr<Session> session, const oci::Reference& name, size_t chunk_size,
                UniqueFd spool)
      : upload_(std::move(session), name),
        chunk_size_(std::clamp(chunk_size, kMinChunk, kMaxChunk)),
        spool_(std::move(spool)) {}
  ~ChunkedUpload() override {
    static_cast<void>(wait_for_chunk().ok());
    if (!committed_) upload_.abandon();
  }

  Status write(ByteView data) override {
    RETURN_IF_ERROR(failed_);
    hash_.update(data);
    if (spool_.valid()) RETURN_IF_ERROR(pwrite_full(spool_.get(), data, written_));
    written_ += data.size();
    while (!data.empty()) {
      // Only when more comes: what fits one chunk goes up in a single PUT.
      if (filling_.size() == chunk_size_) RETURN_IF_ERROR(send_chunk());
      const size_t n = std::min(data.size(), chunk_size_ - filling_.size());
      filling_.insert(filling_.end(), data.begin(), data.begin() + static_cast<ptrdiff_t>(n));
      data = data.subspan(n);
    }
    return {};
  }

  Result<oci::Descriptor> commit(const std::optional<oci::Digest>& expected) override {
    RETURN_IF_ERROR(failed_);
    oci::Descriptor out;
    out.digest = oci::Digest(hash_.finish());
    out.size = written_;
    failed_ = Error(Code::failed_precondition, "this upload has ended");
    if (expected && *expected != out.digest) {
      return Error(Code::corrupt_input, "the uploaded bytes have digest " + out.digest.str() +
                                            ", not " + expected->str());
    }
    RETURN_IF_ERROR(wait_for_chunk());
    RETURN_IF_ERROR(put_rest(out.digest));
    committed_ = true;
    return out;
  }

 private:
  bool may_start_over(const Status& status) const {
    return !status.ok() && is_retryable(status.error()) && (sent_ == 0 || spool_.valid());
  }

  Status put_rest(const oci::Digest& digest) {
    for (int attempt = 1;; ++attempt) {
      Status status = upload_.is_open() ? Status() : upload_.open();
      if (status.ok()) status = upload_.put(filling_, sent_, digest);
      if (!may_start_over(status) || attempt == kStarts) return status;
      RETURN_IF_ERROR(start_over(sent_));
    }
  }

  // A new upload at the registry, with everything before `end` again.
  Status start_over(uint64_t end) {
    upload_.abandon();
    RETURN_IF_ERROR(upload_.open());
    Bytes chunk;
    for (uint64_t at = 0; at < end; at += chunk.size()) {
      chunk.resize(static_cast<size_t>(std::min<uint64_t>(chunk_size_, end - at)));
      RETURN_IF_ERROR(pread_full(spool_.get(), chunk, at));
      RETURN_IF_ERROR(upload_.patch(chunk, at));
    }
    return {};
  }

  // On the helper's thread.
  Status patch_or_start_over(uint64_t offset) {
    Status status = upload_.patch(sending_, offset);
    for (int start = 1; start < kStarts && may_start_over(status) && spool_.valid(); ++start) {
      status = start_over(offset + sending_.size());
    }
    return status;
  }

  Status send_chunk() {
    Status status = wait_for_chunk();
    if (status.ok() && !upload_.is_open()) status = upload_.open();
    if (!status.ok()) {
      failed_ = status;
      return status;
    }
    std::swap(filling_, sending_);
    filling_.clear();
    const uint64_t offset = std::exchange(sent_, sent_ + sending_.size());
    auto send = [this, offset] { return patch_or_start_over(offset); };
    try {
      in_flight_ = std::async(std::launch::async, send);
    } catch (const std::system_error&) {  // no thread to be had
      failed_ = send();
    }
    return failed_;
  }

  Status wait_for_chunk() {
    if (!in_flight_.valid()) return {};
    Status status = in_flight_.get();
    if (!status.ok()) failed_ = status;
    return status;
  }

  UploadSession upload_;
  const size_t chunk_size_;
  const UniqueFd spool_;  // all that was written, where there is one
  Sha256 hash_;
  Bytes filling_;
  Bytes sending_;  // the helper's, as is upload_, while in_flight_ is valid
  std::future<Status> in_flight_;
  uint64_t sent_ = 0;  // given to the helper
  Status failed_;
  bool committed_ = false;
};

// Between the writer's thread and the net thread.
class PipeBody : public net::BodyProvider {
 public:
  Result<size_t> read(std::span<uint8_t> out) override {
    MutexLock lock(mutex_);
    if (aborted_) return Error(Code::cancelled, "the upload was abandoned");
    if (pieces_.empty()) {
      if (ended_) return size_t{0};
      starving_ = true;
      return kLater;
    }
    const Bytes& front = pieces_.front();
    const size_t n = std::min(out.size(), front.size() - taken_);
    std::memcpy(out.data(), front.data() + taken_, n);
    taken_ += n;
    started_ = true;
    if (taken_ == front.size()) {
      held_ -= front.size();
      pieces_.pop_front();
      taken_ = 0;
    }
    changed_.notify_all();
    return n;
  }
  Status rewind() override {
    MutexLock lock(mutex_);
    if (!started_) return {};
    return Error(Code::unsupported, "a streamed upload cannot start over");
  }

  // Blocks while enough is held. False: the request has ended, nobody reads.
  // Sets *wake if the reader waits to be told.
  bool push(ByteView data, bool* wake) {
    MutexLock lock(mutex_);
    while (held_ >= kCap && !request_ended_) changed_.wait(mutex_);
    if (request_ended_) return false;
    pieces_.emplace_back(data.begin(), data.end());
    held_ += data.size();
    *wake = std::exchange(starving_, false);
    return true;
  }
  void finish_or_abort(const Status& status, bool* wake) {
    MutexLock lock(mutex_);
    ended_ = true;
    aborted_ = !status.ok();
    *wake = std::exchange(starving_, false);
  }
  void request_ended() {
    MutexLock lock(mutex_);
    request_ended_ = true;
    changed_.notify_all();
  }

 private:
  static constexpr size_t kCap = 4 << 20;
  Mutex mutex_;
  CondVar changed_;
  std::deque<Bytes> pieces_ GUARDED_BY(mutex_);
  size_t taken_ GUARDED_BY(mutex_) = 0;
  size_t held_ GUARDED_BY(mutex_) = 0;
  bool starving_ GUARDED_BY(mutex_) = false;
  bool started_ GUARDED_BY(mutex_) = false;
  bool ended_ GUARDED_BY(mutex_) = false;
  bool aborted_ GUARDED_BY(mutex_) = false;
  bool request_ended_ GUARDED_BY(mutex_) = false;
};

class StreamedUpload : public BlobWriter {
 public:
  StreamedUpload(std::shared_ptr<Session> session, const oci::Reference& name, uint64_t size,
                 const oci::Digest& digest)
      : session_(std::move(session)),
        upload_(session_, name),
        size_(size),
        digest_(digest),
        body_(std::make_shared<PipeBody>()) {}
  ~StreamedUpload() override {
    if (!answer_.valid()) return;
    end_body(Error(Code::cancelled, "abandoned"));
    static_cast<void>(answer_.get().ok());
    upload_.abandon();
  }

  Status open() {
    RETURN_IF_ERROR(upload_.open());
    CallSpec spec;
    spec.method = net::Method::put;
    spec.url = upload_.commit_url(digest_);
    doing_ = Caller::doing(spec);
    spec.headers.add("Content-Type", "application/octet-stream");
    spec.upload = body_;
    spec.upload_size = size_;
    spec.priority = net::Priority::background;
    spec.stall_timeout = std::chrono::seconds(300);
    ASSIGN_OR_RETURN(net::Request request, upload_.caller().prepare(spec));
    auto promise = std::make_shared<std::promise<Result<net::Response>>>();
    answer_ = promise->get_future();
    auto done = [promise, body = body_](Result<net::Response> response) {
      body->request_ended();
      promise->set_value(std::move(response));
    };
    request_ = collect_response(session_->client(), std::move(request), kMaxAnswer, done);
    return {};
  }

  Status write(ByteView data) override {
    if (data.size() > size_ - written_) {
      return Error(Code::invalid_argument,
                   "more bytes than the " + std::to_string(size_) + " that were announced");
    }
    written_ += data.size();
    hash_.update(data);
    bool wake = false;
    if (!data.empty() && !body_->push(data, &wake)) return ended_early();
    if (wake) session_->client().body_ready(request_);
    return {};
  }

  Result<oci::Descriptor> commit(const std::optional<oci::Digest>& expected) override {
    const oci::Digest found(hash_.finish());
    if (written_ != size_ || found != digest_ || (expected && *expected != found)) {
      return Error(Code::corrupt_input, "the uploaded bytes have digest " + found.str() + ", not " +
                                            expected.value_or(digest_).str());
    }
    end_body({});
    RETURN_IF_ERROR(check_answer());
    oci::Descriptor out;
    out.digest = digest_;
    out.size = size_;
    return out;
  }

 private:
  static constexpr uint64_t kMaxAnswer = 64 << 10;

  void end_body(const Status& status) {
    bool wake = false;
    body_->finish_or_abort(status, &wake);
    if (wake) session_->client().body_ready(request_);
  }
  Status check_answer() {
    const Result<net::Response> response = answer_.get();
    if (!response.ok()) return response.error();
    if (response->head.status == 201) return {};
    Error why = error_of_response(doing_, response->head.status, response->body);
    // A token that ran out under way: a new try gets a new one.
    if (why.code == Code::unauthenticated) why.code = Code::unavailable;
    return why;
  }
  Status ended_early() {
    Status status = check_answer();
    if (!status.ok()) return status;
    return Error(Code::corrupt_input, doing_ + ": the registry answered before it had the blob");
  }

  const std::shared_ptr<Session> session_;
  UploadSession upload_;
  const uint64_t size_;
  const oci::Digest digest_;
  const std::shared_ptr<PipeBody> body_;
  std::string doing_;
  Sha256 hash_;
  net::RequestId request_ = 0;
  std::future<Result<net::Response>> answer_;  // valid until it was looked at
};

}  // namespace

namespace {
// Without a name, so that nothing is left whatever happens. (Not O_TMPFILE:
// overlayfs lacked it for long.)
Result<UniqueFd> open_spool(const std::filesystem::path& dir) {
  std::string path = (dir / "pagein-upload-XXXXXX").string();
  UniqueFd fd(::mkostemp(path.data(), O_CLOEXEC));
  if (!fd.valid()) return errno_error(errno, "make a spool file in " + dir.string());
  ::unlink(path.c_str());
  return fd;
}
}  // namespace

Result<std::unique_ptr<BlobWriter>> make_chunked_upload(std::shared_ptr<Session> session,
                                                        const oci::Reference& name,
                                                        const UploadOptions& options) {
  size_t chunk = options.chunk_size;
  if (options.mode == UploadMode::automatic && options.size) {
    chunk = static_cast<size_t>(std::min<uint64_t>(chunk, *options.size));
  }
  UniqueFd spool;
  if (!options.spool_dir.empty()) {
    ASSIGN_OR_RETURN(spool, open_spool(options.spool_dir));
  }
  return std::unique_ptr<BlobWriter>(
      std::make_unique<ChunkedUpload>(std::move(session), name, chunk, std::move(spool)));
}

Result<std::unique_ptr<BlobWriter>> make_streamed_upload(std::shared_ptr<Session> session,
                                                         const oci::Reference& name, uint64_t size,
                                                         const oci::Digest& digest) {
  auto upload = std::make_unique<StreamedUpload>(std::move(session), name, size, digest);
  RETURN_IF_ERROR(upload->open());
  return std::unique_ptr<BlobWriter>(std::move(upload));
}

Result<std::unique_ptr<BlobWriter>> Repository::start_upload(const UploadOptions& options) const {
  if (options.mode == UploadMode::monolithic) {
    if (!options.size || !options.digest) {
      return Error(Code::invalid_argument, "a monolithic upload needs size and digest beforehand");
    }
    return make_streamed_upload(session_, name_, *options.size, *options.digest);
  }
  return make_chunked_upload(session_, name_, options);
}

Result<oci::Descriptor> Repository::push_blob(std::string_view bytes,
                                              std::string_view media_type) const {
  oci::Descriptor out;
  out.media_type = std::string(media_type);
  out.digest = oci::Digest::of(as_bytes(bytes));
  out.size = bytes.size();
  ASSIGN_OR_RETURN(const bool there, blob_exists(out.digest));
  if (there) return out;
  ASSIGN_OR_RETURN(const std::unique_ptr<BlobWriter> upload,
                   start_upload({.size = bytes.size(), .digest = out.digest}));
  RETURN_IF_ERROR(upload->write(as_bytes(bytes)));
  ASSIGN_OR_RETURN(const oci::Descriptor stored, upload->commit(out.digest));
  return out;
}

Result<bool> Repository::mount_blob(const oci::Digest& digest,
                                    const std::string& from_repository) const {
  ASSIGN_OR_RETURN(const oci::Reference from, oci::Reference::make(name_.host(), from_repository));
  const Caller caller(session_, name_, "pull,push");
  CallSpec spec;
  spec.method = net::Method::post;
  spec.url = caller.endpoint().url(
      name_.repository(),
      "blobs/uploads/?mount=" + digest.str() + "&from=" + net::percent_encode(from.repository()));
  spec.scope =
      "repository:" + name_.repository() + ":pull,push repository:" + from.repository() + ":pull";
  ASSIGN_OR_RETURN(const net::Response response, caller.run(spec));
  if (response.head.status == 201) return true;
  if (response.head.status != 202) {
    return error_of_response(Caller::doing(spec), response.head.status, response.body);
  }
  // The registry has begun an upload instead.
  UploadSession unwanted(session_, name_);
  RETURN_IF_ERROR(unwanted.adopt_location(response, spec.url));
  unwanted.abandon();
  return false;
}

}  // namespace pagein::registry
