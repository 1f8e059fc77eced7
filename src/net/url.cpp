#include "net/url.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <memory>

namespace pagein::net {

namespace {

constexpr size_t kMaxUrlLength = 16 << 10;

struct UrlHandleDeleter {
  void operator()(CURLU* handle) const { curl_url_cleanup(handle); }
};
using UrlHandle = std::unique_ptr<CURLU, UrlHandleDeleter>;

std::string lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

// Shows no query, and no user:password either.
Error bad_url(std::string_view text, std::string_view why) {
  std::string shown;
  for (const char c : text.substr(0, std::min<size_t>(text.find('?'), 200))) {
    shown += c > ' ' && c < 0x7f ? c : '?';
  }
  if (const size_t at = shown.rfind('@'); at != std::string::npos) shown = "..." + shown.substr(at);
  return Error(Code::invalid_argument, "URL \"" + shown + "\": " + std::string(why));
}

std::string part(CURLU* handle, CURLUPart which) {
  char* text = nullptr;
  if (curl_url_get(handle, which, &text, 0) != CURLUE_OK || text == nullptr) return {};
  std::string out(text);
  curl_free(text);
  return out;
}

Status set_url(CURLU* handle, std::string_view text) {
  if (text.size() > kMaxUrlLength) return bad_url(text, "longer than 16 KiB");
  for (const char c : text) {
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) {
      return bad_url(text, "has a space or a control character");
    }
  }
  const CURLUcode code = curl_url_set(handle, CURLUPART_URL, std::string(text).c_str(),
                                      CURLU_DISALLOW_USER | CURLU_PATH_AS_IS);
  if (code != CURLUE_OK) return bad_url(text, curl_url_strerror(code));
  return {};
}

Result<Url> url_of(CURLU* handle, std::string_view text) {
  Url out;
  out.scheme = lower(part(handle, CURLUPART_SCHEME));
  if (out.scheme != "http" && out.scheme != "https") {
    return bad_url(text, "only http and https are supported");
  }
  out.host = lower(part(handle, CURLUPART_HOST));
  if (out.host.empty()) return bad_url(text, "has no host");
  out.port = out.is_https() ? 443 : 80;
  if (const std::string port = part(handle, CURLUPART_PORT); !port.empty()) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), out.port);
    if (error != std::errc() || end != port.data() + port.size()) {
      return bad_url(text, "has no valid port");
    }
  }
  out.path = part(handle, CURLUPART_PATH);
  if (out.path.empty()) out.path = "/";
  out.query = part(handle, CURLUPART_QUERY);
  return out;
}

}  // namespace

std::string Url::origin() const {
  std::string out = scheme + "://" + host;
  if (port != (is_https() ? 443 : 80)) out += ":" + std::to_string(port);
  return out;
}

std::string Url::str() const { return query.empty() ? loggable() : loggable() + "?" + query; }

std::string Url::loggable() const { return origin() + path; }

bool Url::is_loopback() const { return is_loopback_host(host); }

Result<Url> parse_url(std::string_view text) {
  const UrlHandle handle(curl_url());
  if (handle == nullptr) return Error(Code::exhausted, "parse URL: out of memory");
  if (text.find("://") == std::string_view::npos) return bad_url(text, "is not absolute");
  RETURN_IF_ERROR(set_url(handle.get(), text));
  return url_of(handle.get(), text);
}

Result<Url> resolve_url(const Url& base, std::string_view location) {
  const UrlHandle handle(curl_url());
  if (handle == nullptr) return Error(Code::exhausted, "parse URL: out of memory");
  if (location.empty()) return bad_url(location, "is empty");
  RETURN_IF_ERROR(set_url(handle.get(), base.str()));
  RETURN_IF_ERROR(set_url(handle.get(), location));
  return url_of(handle.get(), location);
}

bool is_loopback_host(std::string_view host) {
  std::string name = lower(std::string(host));
  if (name.starts_with('[')) {
    name = name.substr(1, name.find(']') - 1);
    return name == "::1";
  }
  if (std::count(name.begin(), name.end(), ':') == 1) name = name.substr(0, name.find(':'));
  if (name == "localhost" || name == "::1") return true;
  // 127.a.b.c in plain decimal; other spellings count as not loopback.
  if (!name.starts_with("127.")) return false;
  return std::count(name.begin(), name.end(), '.') == 3 &&
         name.find_first_not_of("0123456789.") == std::string::npos &&
         name.find("..") == std::string::npos && name.back() != '.';
}

std::string percent_encode(std::string_view text) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  for (const char c : text) {
    const bool unreserved = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                            (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~';
    if (unreserved) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

}  // namespace pagein::net
