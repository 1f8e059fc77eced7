#include "snapshotter/filter.h"

#include <re2/re2.h>

#include "snapshotter/filter_scanner.h"

namespace pagein::snapshotter {

namespace {
constexpr int64_t kMaxRegexMemory = 1 << 20;  // bytes, of one compiled expression

using Path = std::vector<std::string>;
enum class Op { present, equal, not_equal, matches };

Result<Op> op_of(std::string_view text, const FilterScanner& scanner) {
  if (text == "==") return Op::equal;
  if (text == "!=") return Op::not_equal;
  if (text == "~=") return Op::matches;
  return scanner.error("unsupported operator \"" + std::string(text) + "\"");
}

std::string join(Path::const_iterator begin, Path::const_iterator end) {
  std::string joined;
  for (auto it = begin; it != end; ++it) {
    if (it != begin) joined += '.';
    joined += *it;
  }
  return joined;
}
}  // namespace

struct Filter::Selector {
  enum class Field { name, parent, kind, label, unknown };
  Field field = Field::unknown;
  std::string label;  // key
  Op op = Op::present;
  std::string value;
  std::shared_ptr<const re2::RE2> regex;

  void set_path(const Path& path) {
    const std::string& first = path.front();
    if (first == "name") field = Field::name;
    if (first == "parent") field = Field::parent;
    if (first == "kind") field = Field::kind;
    if (first == "labels") field = Field::label;
    label = join(path.begin() + 1, path.end());
  }

  // The field's value, or null if it is not there.
  const std::string* find(const Info& info, std::string& kind_name) const {
    switch (field) {
      case Field::name: return &info.name;
      case Field::parent: return &info.parent;
      case Field::kind:
        kind_name = info.kind == Kind::view     ? "view"
                    : info.kind == Kind::active ? "active"
                                                : "committed";
        return &kind_name;
      case Field::label: {
        const auto it = info.labels.find(label);
        return it == info.labels.end() ? nullptr : &it->second;
      }
      case Field::unknown: return nullptr;
    }
    return nullptr;
  }

  // What is absent reads as "", except that it equals nothing (containerd
  // filters/filter.go).
  bool matches(const Info& info) const {
    std::string kind_name;
    const std::string* found = find(info, kind_name);
    static const std::string empty;
    const std::string& text = found == nullptr ? empty : *found;
    switch (op) {
      case Op::present: return found != nullptr;
      case Op::equal: return found != nullptr && text == value;
      case Op::not_equal: return text != value;
      case Op::matches: return re2::RE2::PartialMatch(text, *regex);
    }
    return false;
  }
};

namespace {

Result<std::shared_ptr<const re2::RE2>> compile(const std::string& pattern,
                                                const FilterScanner& scanner) {
  re2::RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMaxRegexMemory);
  auto regex = std::make_shared<const re2::RE2>(pattern, options);
  if (!regex->ok()) return scanner.error("bad regular expression: " + regex->error());
  return regex;
}

Result<std::string> field(FilterScanner& scanner) {
  ASSIGN_OR_RETURN(const FilterToken token, scanner.next());
  if (token.kind == FilterToken::Kind::field) return token.text;
  if (token.kind == FilterToken::Kind::quoted && token.quote == '"') return token.text;
  return scanner.error("expected a field");
}

Result<Path> field_path(FilterScanner& scanner) {
  Path path;
  for (;;) {
    ASSIGN_OR_RETURN(std::string name, field(scanner));
    path.push_back(std::move(name));
    if (scanner.peek() != '.') return path;
    ASSIGN_OR_RETURN([[maybe_unused]] const FilterToken dot, scanner.next());
  }
}

Result<std::string> value(FilterScanner& scanner, Op op) {
  ASSIGN_OR_RETURN(const FilterToken token, scanner.next());
  switch (token.kind) {
    case FilterToken::Kind::value:
    case FilterToken::Kind::field: return token.text;
    case FilterToken::Kind::quoted:
      if (op == Op::matches || token.quote == '"') return token.text;
      return scanner.error("only a regular expression may be quoted by / or |");
    default: return scanner.error("expected a value");
  }
}

template <typename Selector>
Result<Selector> parse_selector(FilterScanner& scanner) {
  Selector selector;
  ASSIGN_OR_RETURN(const Path path, field_path(scanner));
  selector.set_path(path);
  if (scanner.peek() == ',' || scanner.at_end()) return selector;
  ASSIGN_OR_RETURN(const FilterToken token, scanner.next());
  if (token.kind != FilterToken::Kind::op) return scanner.error("expected an operator");
  ASSIGN_OR_RETURN(selector.op, op_of(token.text, scanner));
  ASSIGN_OR_RETURN(selector.value, value(scanner, selector.op));
  if (selector.op == Op::matches) {
    ASSIGN_OR_RETURN(selector.regex, compile(selector.value, scanner));
  }
  return selector;
}

}  // namespace

Result<Filter> Filter::parse(const std::vector<std::string>& filters) {
  if (filters.size() > kMaxFilters) return Error(Code::invalid_argument, "too many filters");
  auto any = std::make_shared<std::vector<Conjunction>>();
  for (const std::string& text : filters) {
    if (text.size() > kMaxFilterBytes) return Error(Code::invalid_argument, "a filter is too long");
    Conjunction& all = any->emplace_back();
    if (text.empty()) continue;  // matches all
    FilterScanner scanner(text);
    for (;;) {
      if (all.size() == kMaxSelectors) return scanner.error("too many selectors");
      ASSIGN_OR_RETURN(Selector selector, parse_selector<Selector>(scanner));
      all.push_back(std::move(selector));
      if (scanner.at_end()) break;
      if (scanner.peek() != ',') return scanner.error("unexpected input");
      ASSIGN_OR_RETURN([[maybe_unused]] const FilterToken comma, scanner.next());
    }
  }
  Filter filter;
  filter.any_ = std::move(any);
  return filter;
}

bool Filter::matches(const Info& info) const {
  if (any_->empty()) return true;
  for (const Conjunction& all : *any_) {
    bool matched = true;
    for (const Selector& selector : all) matched = matched && selector.matches(info);
    if (matched) return true;
  }
  return false;
}

}  // namespace pagein::snapshotter
