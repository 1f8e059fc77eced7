#include "registry/file_blob_source.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <optional>

#include "base/file.h"
#include "base/mutex.h"
#include "registry/task_thread.h"

namespace pagein::registry {

namespace {

constexpr size_t kPiece = 256 << 10;

class FileBlobSource : public BlobSource, public std::enable_shared_from_this<FileBlobSource> {
 public:
  FileBlobSource(BlobLocator locate, std::string description)
      : locate_(std::move(locate)), description_(std::move(description)), buffer_(kPiece) {}

  ReadId read(const BlobRead& read, std::shared_ptr<BlobSink> sink) override {
    MutexLock lock(mutex_);
    const ReadId id = ++last_id_;
    reads_[id] = std::make_shared<Read>(Read{.request = read, .sink = std::move(sink)});
    schedule();
    return id;
  }
  void cancel(ReadId id) override {
    change(id, [](Read& read) { read.cancelled = true; });
  }
  void pause(ReadId id) override {
    change(id, [](Read& read) { read.paused = true; });
  }
  void resume(ReadId id) override {
    change(id, [](Read& read) { read.paused = false; });
  }
  std::string describe() const override { return description_; }

 private:
  struct Read {
    BlobRead request;
    std::shared_ptr<BlobSink> sink;
    std::optional<FileExtent> extent;
    uint64_t delivered = 0;
    bool paused = false;  // guarded by mutex_, as is cancelled
    bool cancelled = false;
  };

  template <typename F>
  void change(ReadId id, F&& f) {
    MutexLock lock(mutex_);
    const auto it = reads_.find(id);
    if (it == reads_.end()) return;
    f(*it->second);
    schedule();
  }

  // One task at a time works through what there is.
  void schedule() REQUIRES(mutex_) {
    if (scheduled_) return;
    scheduled_ = true;
    thread_.post([self = shared_from_this()] { self->work(); });
  }

  std::shared_ptr<Read> next(ReadId* id, bool* cancelled) {
    MutexLock lock(mutex_);
    std::shared_ptr<Read> best;
    for (const auto& [candidate, read] : reads_) {
      if (read->paused && !read->cancelled) continue;
      if (best != nullptr && best->request.priority <= read->request.priority) continue;
      best = read;
      *id = candidate;
    }
    if (best == nullptr) scheduled_ = false;
    *cancelled = best != nullptr && best->cancelled;
    return best;
  }

  void work() {
    ReadId id = 0;
    bool cancelled = false;
    while (std::shared_ptr<Read> read = next(&id, &cancelled)) {
      std::optional<Status> end;
      if (cancelled) {
        end = Error(Code::cancelled, description_ + ": cancelled");
      } else if (Result<bool> more = step(*read); !more.ok()) {
        end = more.error().with_context(description_ + " blob " + read->request.digest.str());
      } else if (!*more) {
        end = Status();
      }
      if (!end) continue;
      {
        MutexLock lock(mutex_);
        reads_.erase(id);
      }
      read->sink->on_done(*std::move(end));
    }
  }

  // Delivers one piece; false: that was all.
  Result<bool> step(Read& read) {
    const BlobRead& want = read.request;
    if (!read.extent) {
      if (want.length == 0 || want.offset > want.blob_size ||
          want.length > want.blob_size - want.offset) {
        return Error(Code::invalid_argument, "a range that is not within the blob");
      }
      ASSIGN_OR_RETURN(read.extent, locate_(want.digest));
      if (read.extent->size != want.blob_size) {
        return Error(Code::corrupt_input, "the file has " + std::to_string(read.extent->size) +
                                              " bytes, not " + std::to_string(want.blob_size));
      }
    }
    if (want.deadline <= net::Clock::now()) return Error(Code::timeout, "the deadline passed");
    const size_t piece =
        static_cast<size_t>(std::min<uint64_t>(kPiece, want.length - read.delivered));
    const std::span<uint8_t> into = std::span(buffer_).first(piece);
    RETURN_IF_ERROR(pread_full(read.extent->file->get(), into,
                               read.extent->offset + want.offset + read.delivered));
    read.delivered += piece;
    read.sink->on_data(into);
    return read.delivered < want.length;
  }

  const BlobLocator locate_;
  const std::string description_;
  Bytes buffer_;  // of the thread
  Mutex mutex_;
  std::map<ReadId, std::shared_ptr<Read>> reads_ GUARDED_BY(mutex_);
  ReadId last_id_ GUARDED_BY(mutex_) = 0;
  bool scheduled_ GUARDED_BY(mutex_) = false;
  TaskThread thread_;
};

}  // namespace

std::shared_ptr<BlobSource> make_file_blob_source(BlobLocator locate, std::string description) {
  return std::make_shared<FileBlobSource>(std::move(locate), std::move(description));
}

BlobLocator layout_locator(const std::filesystem::path& dir) {
  return [dir](const oci::Digest& digest) -> Result<FileExtent> {
    ASSIGN_OR_RETURN(UniqueFd fd, open_file(dir / "blobs" / "sha256" / digest.hex(), O_RDONLY));
    struct stat st;
    if (::fstat(fd.get(), &st) != 0) return errno_error(errno, "stat blob " + digest.str());
    if (!S_ISREG(st.st_mode)) {
      return Error(Code::corrupt_input, "blob " + digest.str() + " is not a regular file");
    }
    FileExtent out;
    out.size = static_cast<uint64_t>(st.st_size);
    out.file = std::make_shared<const UniqueFd>(std::move(fd));
    return out;
  };
}

std::shared_ptr<BlobSource> make_layout_blob_source(const std::filesystem::path& dir) {
  return make_file_blob_source(layout_locator(dir), dir.string());
}

}  // namespace pagein::registry
