#include "codec/window_references.h"

namespace pagein::codec {

void WindowReferences::touch_window(size_t at, size_t length) {
  const uint8_t* const window = boundary_ - kWindow;
  for (const size_t end = at + length; at < end; ++at) {
    if (known_[at] != 0) continue;
    known_[at] = 1;
    if (recording_) {
      bytes_.push_back(window[at]);
    } else if (!replayed_.empty()) {
      window_[at] = replayed_.front();
      replayed_ = replayed_.subspan(1);
    } else {
      missing_ = true;
    }
  }
}

}  // namespace pagein::codec
