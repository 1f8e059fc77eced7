// Result<T>: a value or an Error. Status: nothing or an Error.
#pragma once

#include <tl/expected.hpp>
#include <utility>

#include "base/error.h"

namespace pagein {

template <typename T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using Base = tl::expected<T, Error>;
  using Base::Base;
  Result(Error error)
      : Base(tl::unexpected<Error>(std::move(error))) {}  // NOLINT: implicit on purpose
  bool ok() const { return this->has_value(); }
};

template <>
class [[nodiscard]] Result<void> : public tl::expected<void, Error> {
 public:
  using Base = tl::expected<void, Error>;
  using Base::Base;
  Result() = default;
  Result(Error error)
      : Base(tl::unexpected<Error>(std::move(error))) {}  // NOLINT: implicit on purpose
  bool ok() const { return this->has_value(); }
};

using Status = Result<void>;

}  // namespace pagein

#define PAGEIN_CONCAT_(a, b) a##b
#define PAGEIN_CONCAT(a, b) PAGEIN_CONCAT_(a, b)

// Return the error of a Status or Result expression, else go on.
#define RETURN_IF_ERROR(expr) RETURN_IF_ERROR_(PAGEIN_CONCAT(pagein_status_, __COUNTER__), expr)
#define RETURN_IF_ERROR_(tmp, expr)                                    \
  do {                                                                 \
    if (auto&& tmp = (expr); !tmp.ok()) return std::move(tmp).error(); \
  } while (0)

// ASSIGN_OR_RETURN(auto x, f()): the value, or return the error.
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_(PAGEIN_CONCAT(pagein_result_, __COUNTER__), lhs, expr)
#define ASSIGN_OR_RETURN_(tmp, lhs, expr)       \
  auto tmp = (expr);                            \
  if (!tmp.ok()) return std::move(tmp).error(); \
  lhs = *std::move(tmp)
