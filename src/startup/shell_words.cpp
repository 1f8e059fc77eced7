#include "startup/shell_words.h"

#include <algorithm>
#include <array>
#include <cstddef>

namespace pagein::startup {
namespace {

// After which a command begins, as after `;`.
constexpr std::array<std::string_view, 16> kKeywords = {
    "if",    "then", "else", "elif", "fi",   "do",   "done", "while",
    "until", "!",    "{",    "}",    "time", "esac", "in",   "function"};

bool is_name_char(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

// NAME=..., as it may stand in front of a command.
bool is_assignment(std::string_view word) {
  const size_t equals = word.find('=');
  return equals != std::string_view::npos && equals > 0 &&
         std::all_of(word.begin(), word.begin() + static_cast<std::ptrdiff_t>(equals),
                     is_name_char);
}

class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}

  std::vector<ShellCommand> run() {
    while (at_ < text_.size() && words_ < kMaxShellWords) step();
    end_command();
    return std::move(commands_);
  }

 private:
  void step() {
    const char c = text_[at_];
    if (quote_ != 0) {
      in_quotes(c);
      return;
    }
    switch (c) {
      case ' ':
      case '\t': end_word(); break;
      case '\n':
      case ';':
      case '|':
      case '&':
      case '(':
      case ')':
      case '`': end_command(); break;
      case '<':
      case '>':
        // "2>": the number is no word.
        if (word_.size() == 1 && word_[0] >= '0' && word_[0] <= '9') has_word_ = false;
        end_word();
        while (at_ + 1 < text_.size() && (text_[at_ + 1] == c || text_[at_ + 1] == '&')) ++at_;
        redirection_ = true;
        break;
      case '\'':
      case '"':
        quote_ = c;
        has_word_ = true;
        break;
      case '\\': escape(); break;
      case '#':
        if (!has_word_ && word_.empty()) {
          at_ = std::min(text_.find('\n', at_), text_.size()) - 1;
          break;
        }
        [[fallthrough]];
      default: take(c);
    }
    ++at_;
  }

  void in_quotes(char c) {
    if (c == quote_) {
      quote_ = 0;
    } else if (c == '\\' && quote_ == '"') {
      escape();
    } else {
      take(c);
    }
    ++at_;
  }

  void escape() {
    if (++at_ < text_.size() && text_[at_] != '\n') take(text_[at_]);
  }

  void take(char c) {
    has_word_ = true;
    if (word_.size() < kMaxWord) word_ += c;
  }

  void end_word() {
    if (has_word_) {
      const bool dropped =
          redirection_ || (command_.empty() && (is_assignment(word_) || is_keyword(word_)));
      if (!dropped) {
        command_.push_back(std::move(word_));
        ++words_;
      }
      redirection_ = false;
    }
    word_.clear();
    has_word_ = false;
  }

  void end_command() {
    end_word();
    redirection_ = false;
    if (!command_.empty()) commands_.push_back(std::move(command_));
    command_.clear();
  }

  static bool is_keyword(std::string_view word) {
    return std::find(kKeywords.begin(), kKeywords.end(), word) != kKeywords.end();
  }

  static constexpr size_t kMaxWord = 64 << 10;
  std::string_view text_;
  size_t at_ = 0;
  size_t words_ = 0;
  char quote_ = 0;  // the one that is open
  bool has_word_ = false;
  bool redirection_ = false;  // the next word is a redirection's target
  std::string word_;
  ShellCommand command_;
  std::vector<ShellCommand> commands_;
};

}  // namespace

std::vector<ShellCommand> shell_commands(std::string_view script) { return Reader(script).run(); }

}  // namespace pagein::startup
