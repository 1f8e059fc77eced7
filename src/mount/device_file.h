// A layer's data as the kernel reads it, and the reply to one of its reads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>

#include "base/file.h"

namespace pagein::mount {

// Where a reply goes; each call ends the read `unique`. Implemented by the FUSE
// session, and by tests of DeviceFile implementations. Thread-safe.
class ReadSink {
 public:
  virtual ~ReadSink() = default;
  // The pieces together are exactly `length` bytes.
  virtual void finish_data(uint64_t unique, uint32_t length, std::span<const ByteView> pieces) = 0;
  virtual void finish_file(uint64_t unique, uint32_t length, int fd, uint64_t offset) = 0;
  virtual void finish_error(uint64_t unique, uint32_t length, int error) = 0;
};

// The right, and the duty, to answer one read, from any thread.
//  R1 The kernel gets exactly one answer: the first call wins, a later one is
//     ignored; destroyed unanswered means EIO.
//  R2 An answer is never short nor long: any other length becomes EIO, because
//     some kernels hand the missing part of a short read to the reader as zeros.
// Movable; one thread at a time. A reply does not block (`file` reads the
// page cache or the disk). It stays valid after the connection is gone: the
// answer is dropped then.
class ReadReply {
 public:
  ReadReply(std::shared_ptr<ReadSink> sink, uint64_t unique, uint32_t length)
      : sink_(std::move(sink)), unique_(unique), length_(length) {}
  ReadReply(ReadReply&&) noexcept = default;
  ReadReply& operator=(ReadReply&& other) noexcept;
  ReadReply(const ReadReply&) = delete;
  ReadReply& operator=(const ReadReply&) = delete;
  ~ReadReply();

  // The bytes wanted, at least 1.
  uint32_t length() const { return length_; }
  bool answered() const { return sink_ == nullptr; }

  // The bytes are copied before these return.
  void data(ByteView bytes);
  void pieces(std::span<const ByteView> pieces);  // at most kMaxPieces
  // length() bytes of the file `fd` from `offset`; EIO if it ends before.
  void file(int fd, uint64_t offset);
  // A positive errno; anything else is sent as EIO.
  void error(int error);
  // No answer from this process: the kernel keeps the read for a successor that
  // takes the connection over, and fails it if none does. For a stop only.
  void leave();

  static constexpr size_t kMaxPieces = 64;

 private:
  std::shared_ptr<ReadSink> sink_;  // null: answered or moved from
  uint64_t unique_;
  uint32_t length_;
};

// One device of an image: a fixed number of bytes that may still have to come
// from somewhere. What follows a file's end in its last 4096-byte block must be
// zeros: the kernel shows it to whoever maps the file. Thread-safe: reads arrive
// from several threads at once.
class DeviceFile {
 public:
  virtual ~DeviceFile() = default;

  // In bytes; never changes; a multiple of 4096 (EROFS blocks).
  virtual uint64_t size() const = 0;

  // Answer now or later with the bytes [offset, offset + reply.length()), which
  // lie within size(). Called on a serving thread that other images wait for:
  // it must not block, nor touch a file below one of our own mounts.
  virtual void read(uint64_t offset, ReadReply reply) = 0;
};

}  // namespace pagein::mount
