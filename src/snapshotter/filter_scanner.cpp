#include "snapshotter/filter_scanner.h"

namespace pagein::snapshotter {

namespace {

constexpr uint32_t kMaxRune = 0x10ffff;

bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
bool is_quote(char c) { return c == '"' || c == '/' || c == '|'; }
bool is_separator(char c) { return c == ',' || c == '.'; }
bool is_operator(char c) { return c == '=' || c == '!' || c == '~'; }
bool is_field(char c) {
  return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

int digit_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return 16;
}

// UTF-8, as RFC 3629. A surrogate becomes U+FFFD, as Go's encoder makes it.
void append_rune(std::string& out, uint32_t rune) {
  if (rune >= 0xd800 && rune <= 0xdfff) rune = 0xfffd;
  if (rune < 0x80) {
    out += static_cast<char>(rune);
  } else if (rune < 0x800) {
    out += static_cast<char>(0xc0 | rune >> 6);
    out += static_cast<char>(0x80 | (rune & 0x3f));
  } else if (rune < 0x10000) {
    out += static_cast<char>(0xe0 | rune >> 12);
    out += static_cast<char>(0x80 | (rune >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (rune & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | rune >> 18);
    out += static_cast<char>(0x80 | (rune >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (rune >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (rune & 0x3f));
  }
}

}  // namespace

Error FilterScanner::error(const std::string& what) const {
  return Error(Code::invalid_argument, "filter \"" + std::string(text_) + "\" at byte " +
                                           std::to_string(at_) + ": " + what);
}

Result<FilterToken> FilterScanner::next() {
  while (!at_end() && is_space(text_[at_])) ++at_;
  if (at_end()) return FilterToken{};
  const size_t begin = at_;
  const char c = text_[at_];
  auto token = [&](FilterToken::Kind kind) {
    return FilterToken{kind, std::string(text_.substr(begin, at_ - begin)), 0};
  };
  if (is_quote(c)) return quoted();
  if (is_separator(c)) {
    ++at_;
    value_ = false;
    return token(FilterToken::Kind::separator);
  }
  if (is_operator(c)) {
    while (!at_end() && is_operator(text_[at_])) ++at_;
    value_ = true;
    return token(FilterToken::Kind::op);
  }
  if (value_) {
    while (!at_end() && text_[at_] != ',' && !is_space(text_[at_])) {
      const auto byte = static_cast<unsigned char>(text_[at_]);
      if (byte < ' ' || byte == 0x7f) return error("control character in a value");
      ++at_;
    }
    value_ = false;
    return token(FilterToken::Kind::value);
  }
  if (is_field(c)) {
    while (!at_end() && is_field(text_[at_])) ++at_;
    return token(FilterToken::Kind::field);
  }
  return error("unexpected character");
}

Result<FilterToken> FilterScanner::quoted() {
  FilterToken token{FilterToken::Kind::quoted, {}, text_[at_++]};
  for (;;) {
    if (at_end() || text_[at_] == '\n') return error("a quote is not closed");
    const char c = text_[at_++];
    if (c == token.quote) return token;
    if (c != '\\') {
      token.text += c;
      continue;
    }
    RETURN_IF_ERROR(escape(token.quote, token.text));
  }
}

// Go's escapes in string literals (Go spec, "Rune literals").
Status FilterScanner::escape(char quote, std::string& out) {
  if (at_end()) return error("a quote is not closed");
  const char c = text_[at_++];
  switch (c) {
    case 'a': out += '\a'; return {};
    case 'b': out += '\b'; return {};
    case 'f': out += '\f'; return {};
    case 'n': out += '\n'; return {};
    case 'r': out += '\r'; return {};
    case 't': out += '\t'; return {};
    case 'v': out += '\v'; return {};
    case '\\': out += '\\'; return {};
    case 'x': {
      ASSIGN_OR_RETURN(const uint32_t byte, digits(2, 16));
      out += static_cast<char>(byte);
      return {};
    }
    case 'u':
    case 'U': {
      ASSIGN_OR_RETURN(const uint32_t rune, digits(c == 'u' ? 4 : 8, 16));
      if (rune > kMaxRune) return error("an escape is not a Unicode character");
      append_rune(out, rune);
      return {};
    }
    default: break;
  }
  if (c == quote) {
    out += c;
    return {};
  }
  if (c < '0' || c > '7') return error("unknown escape");
  --at_;
  ASSIGN_OR_RETURN(const uint32_t byte, digits(3, 8));
  if (byte > 0xff) return error("an octal escape is larger than a byte");
  out += static_cast<char>(byte);
  return {};
}

Result<uint32_t> FilterScanner::digits(size_t count, uint32_t base) {
  uint32_t value = 0;
  for (size_t i = 0; i < count; ++i) {
    const int digit = at_end() ? 16 : digit_value(text_[at_]);
    if (digit >= static_cast<int>(base)) return error("an escape lacks digits");
    value = value * base + static_cast<uint32_t>(digit);
    ++at_;
  }
  return value;
}

}  // namespace pagein::snapshotter
