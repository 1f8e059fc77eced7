// One connection's side of the FUSE protocol: requests in, replies out.
// Internal to mount; see fuse_connection.h for the invariants F1-F4.
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "base/mutex.h"
#include "mount/fuse_connection.h"
#include "mount/fuse_nodes.h"
#include "mount/fuse_protocol.h"

namespace pagein::mount {

// Thread-safe: any number of threads drain it and reply at once. Kept alive by
// the connection, the poller and every ReadReply, so the descriptor is open as
// long as anybody may write to it.
class FuseSession : public ReadSink, public std::enable_shared_from_this<FuseSession> {
 public:
  // `resume` is called (from any thread) when another thread may drain the
  // session: when it is no longer paused, and before this one waits for a disk.
  FuseSession(UniqueFd fd, FuseConnectionOptions options, std::function<void()> resume);
  ~FuseSession() override;

  enum class Drained {
    idle,    // no request is waiting
    more,    // stopped after a batch, for other connections' sake
    paused,  // too much in flight; resume will be called
    ended,   // the kernel has ended the connection
  };
  // Handles requests until one of the above. `buffer` is kRequestBufferBytes.
  Drained drain(std::span<uint8_t> buffer);

  // One request as read from the descriptor; public for the fuzz target.
  void handle(ByteView bytes);

  // Marks it ended and calls on_end, once.
  void end();
  bool ended() const { return ended_.load(); }
  Status wait_ended(std::chrono::milliseconds timeout) const;

  // Waits for INIT's answer.
  Status wait_ready(std::chrono::milliseconds timeout) const;

  // Takes a predecessor's state over and asks for its requests again.
  Status resume_from(const FuseSessionState& state);

  void set_connection(uint32_t number);
  FuseSessionState state() const;
  FuseStats stats() const;
  int fd() const { return fd_.get(); }

  // ReadSink.
  void finish_data(uint64_t unique, uint32_t length, std::span<const ByteView> pieces) override;
  void finish_file(uint64_t unique, uint32_t length, int fd, uint64_t offset) override;
  void finish_error(uint64_t unique, uint32_t length, int error) override;

 private:
  void dispatch(const FuseRequest& request);
  void init(const FuseRequest& request);
  void lookup(const FuseRequest& request);
  void getattr(const FuseRequest& request);
  void open(const FuseRequest& request);
  void read(const FuseRequest& request);
  void open_directory(const FuseRequest& request);
  void readdir(const FuseRequest& request, FuseNodes::Listing listing);
  void statfs(const FuseRequest& request);
  void readlink(const FuseRequest& request);
  void getxattr(const FuseRequest& request);
  void listxattr(const FuseRequest& request);
  void seek(const FuseRequest& request);
  // An attribute's value or names, or only their size where the caller asks for it.
  void reply_xattr(uint64_t unique, uint32_t room, std::string_view value);

  template <typename T>
  void reply(uint64_t unique, const T& payload) {
    send(unique, 0, {reinterpret_cast<const uint8_t*>(&payload), sizeof payload});
  }
  void reply_error(uint64_t unique, int error) { send(unique, error, {}); }
  void reply_ok(uint64_t unique) { send(unique, 0, {}); }
  // Whether the kernel took it.
  bool send(uint64_t unique, int error, ByteView payload) {
    return send_pieces(unique, error, {&payload, 1});
  }
  bool send_pieces(uint64_t unique, int error, std::span<const ByteView> pieces);

  // Lets another thread serve this session while this one may wait.
  void before_waiting() const;
  // False: nothing was answered.
  bool splice_file(uint64_t unique, uint32_t length, int fd, uint64_t offset);

  bool over_cap() const;
  void read_done(uint32_t length);

  const UniqueFd fd_;
  const FuseConnectionOptions options_;
  const std::shared_ptr<FuseNodes> nodes_;
  const std::function<void()> resume_;

  std::atomic<uint64_t> in_flight_{0};
  std::atomic<uint64_t> in_flight_bytes_{0};
  std::atomic<bool> paused_{false};
  std::atomic<bool> ended_{false};

  std::atomic<uint64_t> requests_{0};
  std::atomic<uint64_t> reads_{0};
  std::atomic<uint64_t> read_bytes_{0};
  std::atomic<uint64_t> read_errors_{0};
  std::atomic<uint64_t> malformed_{0};
  std::atomic<uint64_t> resent_{0};

  mutable Mutex mutex_;
  mutable CondVar changed_;
  FuseSessionState state_ GUARDED_BY(mutex_);
};

}  // namespace pagein::mount
