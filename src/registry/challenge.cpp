#include "registry/challenge.h"

#include <algorithm>
#include <optional>

namespace pagein::registry {

namespace {

bool is_token_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
         std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) {}

  bool at_end() const { return at_ == text_.size(); }
  char peek() const { return at_end() ? '\0' : text_[at_]; }
  bool skip(char c) {
    if (at_end() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  // Spaces; with_commas: empty list elements too. Returns whether there were any.
  size_t skip_spaces() {
    const size_t start = at_;
    while (peek() == ' ' || peek() == '\t') {
      if (at_end()) break;
      ++at_;
    }
    return at_ - start;
  }
  void skip_separators() {
    while (!at_end() && (peek() == ' ' || peek() == '\t' || peek() == ',')) ++at_;
  }
  std::string_view token() {
    const size_t start = at_;
    while (!at_end() && is_token_char(text_[at_])) ++at_;
    return text_.substr(start, at_ - start);
  }
  // After the opening quote. nullopt: it never closes.
  std::optional<std::string> quoted_rest() {
    std::string out;
    while (!at_end()) {
      char c = text_[at_++];
      if (c == '"') return out;
      if (c == '\\') {
        if (at_end()) return std::nullopt;
        c = text_[at_++];
      }
      out += c;
    }
    return std::nullopt;
  }
  // Up to the next comma: what we do not understand (token68).
  void skip_element() {
    while (!at_end() && text_[at_] != ',') ++at_;
  }
  size_t position() const { return at_; }
  void rewind(size_t position) { at_ = position; }

 private:
  std::string_view text_;
  size_t at_ = 0;
};

Error broken(std::string_view why) {
  return Error(Code::corrupt_input, "WWW-Authenticate: " + std::string(why));
}

// "name = value" at the cursor; false (nothing consumed) if it is not one.
Result<bool> parse_param(Scanner* scan, Challenge* challenge) {
  const size_t start = scan->position();
  const std::string_view name = scan->token();
  scan->skip_spaces();
  if (name.empty() || !scan->skip('=')) {
    scan->rewind(start);
    return false;
  }
  scan->skip_spaces();
  std::string value;
  if (scan->skip('"')) {
    std::optional<std::string> text = scan->quoted_rest();
    if (!text) return broken("a quoted value does not end");
    value = *std::move(text);
  } else {
    const std::string_view text = scan->token();
    if (text.empty()) {
      scan->rewind(start);  // token68 padding, "abc=="
      return false;
    }
    value = std::string(text);
  }
  challenge->params.emplace(lower(name), std::move(value));
  return true;
}

}  // namespace

std::string Challenge::param(const std::string& name) const {
  const auto it = params.find(name);
  return it == params.end() ? std::string() : it->second;
}

Result<std::vector<Challenge>> parse_challenges(std::string_view field) {
  if (field.size() > kMaxChallengeSize) return broken("longer than allowed");
  std::vector<Challenge> out;
  Scanner scan(field);
  for (scan.skip_separators(); !scan.at_end(); scan.skip_separators()) {
    if (!out.empty()) {
      ASSIGN_OR_RETURN(const bool is_param, parse_param(&scan, &out.back()));
      if (is_param) continue;
    }
    const std::string_view scheme = scan.token();
    if (scheme.empty()) return broken("a scheme is expected");
    if (out.size() == kMaxChallenges) return broken("too many challenges");
    out.push_back({lower(scheme), {}});
    if (scan.skip_spaces() == 0) {
      if (!scan.at_end() && scan.peek() != ',') return broken("a space is expected after a scheme");
      continue;
    }
    ASSIGN_OR_RETURN(const bool is_param, parse_param(&scan, &out.back()));
    if (!is_param) scan.skip_element();
  }
  return out;
}

}  // namespace pagein::registry
