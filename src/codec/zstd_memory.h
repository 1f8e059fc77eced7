// Large memory of which little may be used.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace pagein::codec {

// Zeros; large ones take no memory until they are written. Movable owner.
class ZeroedMemory {
 public:
  ZeroedMemory() = default;
  explicit ZeroedMemory(size_t size)
      : data_(static_cast<uint8_t*>(std::calloc(size > 0 ? size : 1, 1))), size_(size) {
    if (data_ == nullptr) throw std::bad_alloc();
  }
  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* data) const { std::free(data); }
  };
  std::unique_ptr<uint8_t, Free> data_;
  size_t size_ = 0;
};

}  // namespace pagein::codec
