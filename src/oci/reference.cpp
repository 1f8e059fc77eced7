#include "oci/reference.h"

#include <algorithm>
#include <charconv>

namespace pagein::oci {

namespace {

constexpr size_t kMaxNameLength = 255;  // repository, distribution/reference NameTotalLengthMax
constexpr size_t kMaxHostLength = 255;
constexpr size_t kMaxTagLength = 128;
constexpr std::string_view kDockerHub = "docker.io";

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_lower(char c) { return c >= 'a' && c <= 'z'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_alnum(char c) { return is_digit(c) || is_lower(c) || is_upper(c); }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f'); }

Error bad(std::string_view text, std::string_view why) {
  std::string shown;
  for (const char c : text.substr(0, 300)) shown += c >= ' ' && c < 0x7f ? c : '?';
  return Error(Code::invalid_argument, "image reference \"" + shown + "\": " + std::string(why));
}

bool is_valid_port(std::string_view port) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), value);
  return error == std::errc() && end == port.data() + port.size() && value >= 1 && value <= 65535;
}

// Labels of letters, digits and inner hyphens, joined by dots.
bool is_valid_domain(std::string_view domain) {
  if (domain.empty()) return false;
  char previous = '.';
  for (const char c : domain) {
    const bool separator = c == '.' || c == '-';
    if (!separator && !is_alnum(c)) return false;
    if (c == '.' && !is_alnum(previous)) return false;
    if (c == '-' && previous == '.') return false;
    previous = c;
  }
  return is_alnum(previous);
}

bool is_valid_host(std::string_view host) {
  if (host.size() > kMaxHostLength) return false;
  std::string_view port;
  if (host.starts_with('[')) {
    const size_t close = host.find(']');
    if (close == std::string_view::npos || close < 3) return false;
    for (const char c : host.substr(1, close - 1)) {
      if (!is_hex(c) && !(c >= 'A' && c <= 'F') && c != ':') return false;
    }
    port = host.substr(close + 1);
    return port.empty() || (port.starts_with(':') && is_valid_port(port.substr(1)));
  }
  const size_t colon = host.find(':');
  if (colon == std::string_view::npos) return is_valid_domain(host);
  return is_valid_domain(host.substr(0, colon)) && is_valid_port(host.substr(colon + 1));
}

// [a-z0-9]+ joined by ".", "_", "__" or hyphens.
bool is_valid_component(std::string_view component) {
  size_t i = 0;
  auto alnum_run = [&] {
    const size_t start = i;
    while (i < component.size() && (is_digit(component[i]) || is_lower(component[i]))) ++i;
    return i > start;
  };
  if (!alnum_run()) return false;
  while (i < component.size()) {
    const size_t start = i;
    const char c = component[i];
    while (i < component.size() && component[i] == c) ++i;
    const size_t run = i - start;
    const bool separator = c == '-' || (c == '.' && run == 1) || (c == '_' && run <= 2);
    if (!separator || !alnum_run()) return false;
  }
  return true;
}

// Empty where it is fine, else what is wrong.
std::string_view check_repository(std::string_view repository) {
  if (repository.empty()) return "has no repository name";
  if (repository.size() > kMaxNameLength)
    return "the repository name is longer than 255 characters";
  if (std::any_of(repository.begin(), repository.end(), is_upper)) {
    return "the repository name must be lower case";
  }
  for (size_t start = 0; start <= repository.size();) {
    const size_t slash = std::min(repository.find('/', start), repository.size());
    if (!is_valid_component(repository.substr(start, slash - start))) {
      return "the repository name may only have a-z, 0-9 and single separators (. _ __ -) between "
             "them";
    }
    start = slash + 1;
  }
  return {};
}

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (is_upper(c)) c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

// What tells a host from the first part of a repository's name. (Docker also
// takes any upper-case letter for a sign; hosts are lower-cased here, so that
// would not read back as the same reference.)
bool looks_like_host(std::string_view component) {
  return lower(component) == "localhost" || component.find_first_of(".:") != std::string_view::npos;
}

}  // namespace

bool is_valid_tag(std::string_view tag) {
  if (tag.empty() || tag.size() > kMaxTagLength || tag[0] == '.' || tag[0] == '-') return false;
  return std::all_of(tag.begin(), tag.end(),
                     [](char c) { return is_alnum(c) || c == '_' || c == '.' || c == '-'; });
}

std::string referrers_tag(const Digest& digest) { return "sha256-" + digest.hex(); }

Result<Reference> Reference::make(std::string_view host, std::string_view repository) {
  const std::string text = std::string(host) + "/" + std::string(repository);
  if (!is_valid_host(host)) return bad(text, "the registry host is not a valid host[:port]");
  if (!looks_like_host(host)) return bad(text, "the registry host needs a dot or a port");
  Reference out;
  out.host_ = lower(host);
  if (out.host_ == "index.docker.io") out.host_ = kDockerHub;
  out.repository_ = std::string(repository);
  if (out.host_ == kDockerHub && !repository.empty() &&
      repository.find('/') == std::string_view::npos) {
    out.repository_ = "library/" + out.repository_;
  }
  if (const std::string_view why = check_repository(out.repository_); !why.empty()) {
    return bad(text, why);
  }
  return out;
}

Result<Reference> Reference::parse(std::string_view text) {
  std::string_view rest = text;
  std::optional<Digest> digest;
  std::optional<std::string> tag;
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    Result<Digest> parsed = Digest::parse(rest.substr(at + 1));
    if (!parsed.ok()) return bad(text, parsed.error().message);
    digest = *parsed;
    rest = rest.substr(0, at);
  }
  const size_t last_slash = rest.rfind('/');
  const size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos &&
      (last_slash == std::string_view::npos || colon > last_slash)) {
    tag = std::string(rest.substr(colon + 1));
    if (!is_valid_tag(*tag)) {
      return bad(text, "a tag has 1 to 128 of A-Z a-z 0-9 _ . - and does not start with . or -");
    }
    rest = rest.substr(0, colon);
  }
  std::string_view host = kDockerHub;
  std::string_view repository = rest;
  if (const size_t slash = rest.find('/');
      slash != std::string_view::npos && looks_like_host(rest.substr(0, slash))) {
    host = rest.substr(0, slash);
    repository = rest.substr(slash + 1);
  } else if (rest.size() == 64 && std::all_of(rest.begin(), rest.end(), is_hex)) {
    return bad(text, "64 hex digits are an image ID, not a name");
  }
  Result<Reference> made = make(host, repository);
  if (!made.ok()) {
    // The caller's own text says more than the parts we made of it.
    const std::string& message = made.error().message;
    return bad(text, std::string_view(message).substr(message.rfind("\": ") + 3));
  }
  Reference out = *std::move(made);
  out.tag_ = std::move(tag);
  out.digest_ = digest;
  return out;
}

std::string Reference::identifier() const {
  if (digest_) return digest_->str();
  return tag_ ? *tag_ : "latest";
}

std::string Reference::str() const {
  std::string out = name();
  if (tag_) out += ":" + *tag_;
  if (digest_) out += "@" + digest_->str();
  return out;
}

Reference Reference::with_default_tag() const {
  Reference out = *this;
  if (!out.tag_ && !out.digest_) out.tag_ = "latest";
  return out;
}

Result<Reference> Reference::with_tag(std::string_view tag) const {
  if (!is_valid_tag(tag)) return bad(name() + ":" + std::string(tag), "the tag is not valid");
  Reference out = *this;
  out.tag_ = std::string(tag);
  out.digest_.reset();
  return out;
}

Reference Reference::with_digest(const Digest& digest) const {
  Reference out = *this;
  out.digest_ = digest;
  return out;
}

}  // namespace pagein::oci
