// Tokens of a filter expression (containerd filters/scanner.go). Inside this
// folder only.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace pagein::snapshotter {

struct FilterToken {
  enum class Kind { end, field, value, quoted, separator, op };
  Kind kind = Kind::end;
  std::string text;  // of quoted: without quotes, escapes resolved
  char quote = 0;    // of quoted: " / or |
};

// A cursor over the text, which must outlive it. Thread-compatible. Errors are
// invalid_argument with the place.
class FilterScanner {
 public:
  explicit FilterScanner(std::string_view text) : text_(text) {}

  // After an operator a word is a value: anything up to a comma or space.
  // Space before a token is skipped.
  Result<FilterToken> next();
  // The next byte as it is, space not skipped; 0 at the end.
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool at_end() const { return at_ == text_.size(); }
  Error error(const std::string& what) const;

 private:
  Result<FilterToken> quoted();
  Status escape(char quote, std::string& out);
  Result<uint32_t> digits(size_t count, uint32_t base);
  std::string_view text_;
  size_t at_ = 0;
  bool value_ = false;
};

}  // namespace pagein::snapshotter
