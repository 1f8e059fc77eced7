// The boundary where exceptions end: thread entries and C callbacks.
#pragma once

#include <exception>
#include <utility>

#include "base/log.h"

namespace pagein {

// Runs `body`; an escaping exception is logged and swallowed. bad_alloc
// terminates: nobody can go on without memory. Returns whether it ran through.
template <typename F>
bool guard(std::string_view where, F&& body) noexcept {
  try {
    std::forward<F>(body)();
    return true;
  } catch (const std::bad_alloc&) {
    std::terminate();
  } catch (const std::exception& e) {
    log::error("unexpected exception", {{"where", where}, {"what", e.what()}});
  } catch (...) {
    log::error("unexpected exception", {{"where", where}});
  }
  return false;
}

}  // namespace pagein
