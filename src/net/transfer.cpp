#include "net/transfer.h"

#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/guard.h"

namespace pagein::net {

namespace {

constexpr int kMaxHops = 10;
constexpr size_t kMaxHeaderBytes = 256 << 10;
constexpr size_t kMaxHeaderFields = 1000;
constexpr uint64_t kMaxRedirectBody = 64 << 10;  // read to keep the connection, else dropped
constexpr long kReceiveBuffer = 256 << 10;

std::string_view method_name(Method method) {
  switch (method) {
    case Method::get: return "GET";
    case Method::head: return "HEAD";
    case Method::post: return "POST";
    case Method::put: return "PUT";
    case Method::patch: return "PATCH";
    case Method::del: return "DELETE";
  }
  return "GET";
}

std::string_view trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r' ||
                           text.back() == '\n')) {
    text.remove_suffix(1);
  }
  return text;
}

bool has_control(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](char c) { return static_cast<unsigned char>(c) < ' ' || c == 0x7f; });
}

// Header fields that hold no secret, so that another origin may see them.
Headers public_headers(const Headers& headers) {
  Headers out;
  for (const std::string_view name : {"Accept", "Content-Type", "Range", "If-Range"}) {
    for (const std::string_view value : headers.find_all(name)) {
      out.add(std::string(name), std::string(value));
    }
  }
  return out;
}

Code code_of(CURLcode code) {
  switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL: return Code::invalid_argument;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ENGINE_NOTFOUND: return Code::failed_precondition;
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_BAD_CONTENT_ENCODING: return Code::corrupt_input;
    case CURLE_OUT_OF_MEMORY: return Code::exhausted;
    case CURLE_BAD_FUNCTION_ARGUMENT:
    case CURLE_UNKNOWN_OPTION: return Code::internal;
    default: return Code::unavailable;
  }
}

}  // namespace

Transfer::Transfer(RequestId id, Request request, std::shared_ptr<ResponseHandler> handler)
    : id_(id), request_(std::move(request)), handler_(std::move(handler)) {}

Transfer::~Transfer() { close(); }

Status Transfer::prepare() {
  ASSIGN_OR_RETURN(first_, parse_url(request_.url));
  for (const auto& [name, value] : request_.headers.all()) {
    if (has_control(name) || has_control(value)) {
      return Error(Code::invalid_argument,
                   "header " + name.substr(0, 40) + " holds control characters");
    }
  }
  url_ = first_;
  origin_ = url_.origin();
  return {};
}

std::string Transfer::doing() const {
  return std::string(method_name(request_.method)) + " " + url_.loggable();
}

Result<CURL*> Transfer::open(TransferPolicy* policy, const ClientOptions& options, CURLSH* share) {
  close();
  policy_ = policy;
  head_ = ResponseHead();
  header_bytes_ = 0;
  head_done_ = false;
  location_.clear();
  discarded_ = 0;
  recv_paused_ = send_paused_ = false;
  easy_ = curl_easy_init();
  if (easy_ == nullptr) return Error(Code::exhausted, doing() + ": libcurl gave no handle");
  RETURN_IF_ERROR(set_options(options, share));
  return easy_;
}

void Transfer::close() {
  if (easy_ != nullptr) curl_easy_cleanup(easy_);
  if (header_list_ != nullptr) curl_slist_free_all(header_list_);
  easy_ = nullptr;
  header_list_ = nullptr;
}

Status Transfer::set_options(const ClientOptions& options, CURLSH* share) {
  CURL* h = easy_;
  curl_message_[0] = '\0';
  curl_easy_setopt(h, CURLOPT_PRIVATE, this);
  curl_easy_setopt(h, CURLOPT_ERRORBUFFER, curl_message_);
  curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(h, CURLOPT_SHARE, share);
  curl_easy_setopt(h, CURLOPT_URL, url_.str().c_str());
  curl_easy_setopt(h, CURLOPT_PATH_AS_IS, 1L);
  curl_easy_setopt(h, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
  curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(h, CURLOPT_FOLLOWLOCATION, 0L);
  curl_easy_setopt(h, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
  curl_easy_setopt(h, CURLOPT_HTTP_VERSION,
                   static_cast<long>(request_.http_version == HttpVersion::http2_allowed
                                         ? CURL_HTTP_VERSION_2TLS
                                         : CURL_HTTP_VERSION_1_1));
  curl_easy_setopt(h, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(h, CURLOPT_BUFFERSIZE, kReceiveBuffer);
  curl_easy_setopt(h, CURLOPT_CONNECTTIMEOUT_MS,
                   static_cast<long>(request_.connect_timeout.count()));
  curl_easy_setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl_easy_setopt(h, CURLOPT_LOW_SPEED_TIME, static_cast<long>(request_.stall_timeout.count()));
  curl_easy_setopt(h, CURLOPT_USERAGENT, options.user_agent.c_str());
  // Proxies come from the environment, but nobody means them for this machine.
  if (url_.is_loopback()) curl_easy_setopt(h, CURLOPT_NOPROXY, "*");
  // libcurl leaves HTTP_PROXY to CGI programs; every other registry client reads it.
  if (!url_.is_https() && ::getenv("http_proxy") == nullptr) {
    if (const char* proxy = ::getenv("HTTP_PROXY")) curl_easy_setopt(h, CURLOPT_PROXY, proxy);
  }

  curl_easy_setopt(h, CURLOPT_HEADERFUNCTION, &Transfer::header_callback);
  curl_easy_setopt(h, CURLOPT_HEADERDATA, this);
  curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, &Transfer::write_callback);
  curl_easy_setopt(h, CURLOPT_WRITEDATA, this);
  set_socket_callbacks();
  set_method();
  set_tls();
  set_headers();
  return {};
}

// The policy outlives every connection; the transfer that opened one may not.
void Transfer::set_socket_callbacks() {
  CURL* h = easy_;
  curl_easy_setopt(h, CURLOPT_SOCKOPTFUNCTION, &Transfer::open_callback);
  curl_easy_setopt(h, CURLOPT_SOCKOPTDATA, policy_);
  curl_easy_setopt(h, CURLOPT_CLOSESOCKETFUNCTION, &Transfer::close_callback);
  curl_easy_setopt(h, CURLOPT_CLOSESOCKETDATA, policy_);
  curl_easy_setopt(h, CURLOPT_PREREQFUNCTION, &Transfer::request_callback);
  curl_easy_setopt(h, CURLOPT_PREREQDATA, this);
}

int Transfer::open_callback(void* policy, curl_socket_t fd, curlsocktype) {
  guard("http socket", [&] { static_cast<TransferPolicy*>(policy)->socket_opened(fd); });
  return CURL_SOCKOPT_OK;
}

int Transfer::close_callback(void* policy, curl_socket_t fd) {
  guard("http socket", [&] { static_cast<TransferPolicy*>(policy)->socket_closed(fd); });
  return ::close(fd);
}

int Transfer::request_callback(void* self, char*, char*, int peer_port, int local_port) {
  guard("http request", [&] {
    auto* transfer = static_cast<Transfer*>(self);
    transfer->policy_->request_begins(*transfer, local_port, peer_port);
  });
  return CURL_PREREQFUNC_OK;
}

void Transfer::set_method() {
  CURL* h = easy_;
  body_sent_ = 0;
  switch (request_.method) {
    case Method::get: curl_easy_setopt(h, CURLOPT_HTTPGET, 1L); return;
    case Method::head: curl_easy_setopt(h, CURLOPT_NOBODY, 1L); return;
    case Method::del: curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, "DELETE"); return;
    case Method::post:
    case Method::put:
    case Method::patch: break;
  }
  const uint64_t size = request_.upload != nullptr ? request_.upload_size : request_.body.size();
  curl_easy_setopt(h, CURLOPT_UPLOAD, 1L);
  curl_easy_setopt(h, CURLOPT_CUSTOMREQUEST, std::string(method_name(request_.method)).c_str());
  curl_easy_setopt(h, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(size));
  curl_easy_setopt(h, CURLOPT_UPLOAD_BUFFERSIZE, kReceiveBuffer);
  curl_easy_setopt(h, CURLOPT_READFUNCTION, &Transfer::read_callback);
  curl_easy_setopt(h, CURLOPT_READDATA, this);
  curl_easy_setopt(h, CURLOPT_SEEKFUNCTION, &Transfer::seek_callback);
  curl_easy_setopt(h, CURLOPT_SEEKDATA, this);
}

void Transfer::set_tls() {
  const TlsOptions* tls = request_.tls.get();
  if (tls == nullptr) return;
  const long verify = tls->verify == TlsOptions::Verify::on ? 1 : 0;
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYPEER, verify);
  curl_easy_setopt(easy_, CURLOPT_SSL_VERIFYHOST, verify * 2);
  if (!tls->ca_file.empty()) curl_easy_setopt(easy_, CURLOPT_CAINFO, tls->ca_file.c_str());
  if (!tls->ca_pem.empty()) {
    curl_blob blob{.data = const_cast<char*>(tls->ca_pem.data()),
                   .len = tls->ca_pem.size(),
                   .flags = CURL_BLOB_COPY};
    curl_easy_setopt(easy_, CURLOPT_CAINFO_BLOB, &blob);
  }
  // The CA goes along to redirect targets (a private registry's object storage
  // has the same one); who we are is for the registry alone.
  if (other_origin_) return;
  if (!tls->client_cert_file.empty()) {
    curl_easy_setopt(easy_, CURLOPT_SSLCERT, tls->client_cert_file.c_str());
  }
  if (!tls->client_key_file.empty()) {
    curl_easy_setopt(easy_, CURLOPT_SSLKEY, tls->client_key_file.c_str());
  }
}

void Transfer::set_headers() {
  auto append = [this](const std::string& line) {
    if (curl_slist* list = curl_slist_append(header_list_, line.c_str())) header_list_ = list;
  };
  append("Expect:");  // a round trip for nothing: we hold a token already
  if (has_body() && request_.headers.find("Content-Type") == nullptr) {
    append("Content-Type: application/octet-stream");
  }
  for (const auto& [name, value] : request_.headers.all()) {
    append(value.empty() ? name + ";" : name + ": " + value);
  }
  curl_easy_setopt(easy_, CURLOPT_HTTPHEADER, header_list_);
}

size_t Transfer::header_callback(char* data, size_t size, size_t count, void* self) {
  size_t taken = 0;
  guard("http headers", [&] {
    taken = static_cast<Transfer*>(self)->on_header(std::string_view(data, size * count));
  });
  return taken;
}

size_t Transfer::on_header(std::string_view line) {
  if (cancelled_) return 0;
  if (head_done_) return line.size();  // trailers
  header_bytes_ += line.size();
  if (header_bytes_ > kMaxHeaderBytes || head_.headers.all().size() > kMaxHeaderFields) {
    failure_ = Error(Code::corrupt_input, doing() + ": the answer's headers are too long");
    return 0;
  }
  const std::string_view text = trim(line);
  if (line.starts_with("HTTP/")) {
    head_ = ResponseHead();
    return line.size();
  }
  if (!text.empty()) {
    const size_t colon = text.find(':');
    if (colon != std::string_view::npos) {
      head_.headers.add(std::string(trim(text.substr(0, colon))),
                        std::string(trim(text.substr(colon + 1))));
    }
    return line.size();
  }
  long status = 0;
  curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
  if (status >= 100 && status < 200) return line.size();
  head_.status = static_cast<int>(status);
  if (Status done = head_complete(); !done.ok()) {
    failure_ = std::move(done).error();
    return 0;
  }
  return cancelled_ ? 0 : line.size();
}

bool Transfer::is_redirect() const {
  switch (head_.status) {
    case 301:
    case 302:
    case 303:
    case 307:
    case 308: return request_.redirects == Redirects::follow && head_.headers.find("Location");
    default: return false;
  }
}

Status Transfer::head_complete() {
  head_done_ = true;
  head_.url = url_.str();
  head_.other_origin = other_origin_;
  if (is_redirect()) {
    location_ = *head_.headers.find("Location");
    return {};
  }
  delivered_head_ = true;
  const bool ran = guard("http response handler", [&] { handler_->on_headers(head_); });
  if (!ran) return Error(Code::internal, doing() + ": the handler failed");
  return {};
}

size_t Transfer::write_callback(char* data, size_t size, size_t count, void* self) {
  size_t taken = 0;
  guard("http body", [&] {
    taken = static_cast<Transfer*>(self)->on_body(
        {reinterpret_cast<const uint8_t*>(data), size * count});
  });
  return taken;
}

size_t Transfer::on_body(ByteView data) {
  if (cancelled_) return 0;
  if (!location_.empty()) {
    discarded_ += data.size();
    return discarded_ <= kMaxRedirectBody ? data.size() : 0;
  }
  if (!delivered_head_) return 0;
  if (holds_ == 0) holds_ |= policy_->admit_data(*this, data.size());
  if (holds_ != 0) {
    recv_paused_ = was_held_ = true;
    return CURL_WRITEFUNC_PAUSE;
  }
  const bool ran = guard("http response handler", [&] { handler_->on_data(data); });
  if (!ran) failure_ = Error(Code::internal, doing() + ": the handler failed");
  return ran && !cancelled_ ? data.size() : 0;
}

size_t Transfer::read_callback(char* data, size_t size, size_t count, void* self) {
  size_t given = CURL_READFUNC_ABORT;
  guard("http upload", [&] {
    given =
        static_cast<Transfer*>(self)->on_upload({reinterpret_cast<uint8_t*>(data), size * count});
  });
  return given;
}

size_t Transfer::on_upload(std::span<uint8_t> out) {
  if (cancelled_) return CURL_READFUNC_ABORT;
  size_t given = 0;
  if (request_.upload == nullptr) {
    given = std::min(out.size(), request_.body.size() - body_sent_);
    std::memcpy(out.data(), request_.body.data() + body_sent_, given);
  } else {
    Result<size_t> read = request_.upload->read(out);
    if (!read.ok()) {
      failure_ = std::move(read).error();
      return CURL_READFUNC_ABORT;
    }
    if (*read == BodyProvider::kLater) {
      send_paused_ = true;
      return CURL_READFUNC_PAUSE;
    }
    given = *read;
  }
  body_sent_ += given;
  policy_->count_sent(given);
  return given;
}

int Transfer::seek_callback(void* self, curl_off_t offset, int origin) {
  auto* transfer = static_cast<Transfer*>(self);
  if (offset != 0 || origin != SEEK_SET) return CURL_SEEKFUNC_CANTSEEK;
  int result = CURL_SEEKFUNC_FAIL;
  guard("http upload", [&] {
    if (transfer->rewind_body().ok()) result = CURL_SEEKFUNC_OK;
  });
  return result;
}

Status Transfer::rewind_body() {
  body_sent_ = 0;
  return request_.upload == nullptr ? Status() : request_.upload->rewind();
}

Transfer::HopResult Transfer::hop_ended(CURLcode code) {
  if (cancelled_) {
    return {Outcome::done, Error(Code::cancelled, doing() + ": cancelled")};
  }
  if (failure_) return {Outcome::done, *std::exchange(failure_, std::nullopt)};
  if (!location_.empty() && (code == CURLE_OK || code == CURLE_WRITE_ERROR)) {
    if (Status status = follow(); !status.ok()) return {Outcome::done, std::move(status)};
    return {Outcome::next_hop, {}};
  }
  if (code != CURLE_OK) return {Outcome::done, error_of(code)};
  if (!delivered_head_) {
    return {Outcome::done, Error(Code::corrupt_input, doing() + ": the answer has no headers")};
  }
  return {Outcome::done, {}};
}

Status Transfer::follow() {
  const std::string from = doing();
  if (++hops_ > kMaxHops) {
    return Error(Code::corrupt_input,
                 from + ": more than " + std::to_string(kMaxHops) + " redirects");
  }
  Result<Url> next = resolve_url(url_, location_);
  if (!next.ok())
    return Error(Code::corrupt_input, from + ": redirected to " + next.error().message);
  const int status = head_.status;
  const bool safe = request_.method == Method::get || request_.method == Method::head;
  const bool becomes_get =
      !safe && (status == 303 || (request_.method == Method::post && status < 303));
  if (becomes_get) {
    request_.method = Method::get;
    request_.body.clear();
    request_.upload = nullptr;
    request_.headers.remove("Content-Type");
  } else if (has_body()) {
    RETURN_IF_ERROR(rewind_body());
  }
  url_ = *std::move(next);
  origin_ = url_.origin();
  if (origin_ != first_.origin() && !other_origin_) {
    other_origin_ = true;
    request_.headers = public_headers(request_.headers);
  }
  return {};
}

void Transfer::release(unsigned bits) {
  holds_ &= ~bits;
  if (holds_ != 0 || !recv_paused_ || easy_ == nullptr) return;
  recv_paused_ = false;
  curl_easy_pause(easy_, send_paused_ ? CURLPAUSE_SEND : CURLPAUSE_CONT);
}

void Transfer::body_ready() {
  if (!send_paused_ || easy_ == nullptr) return;
  send_paused_ = false;
  curl_easy_pause(easy_, recv_paused_ ? CURLPAUSE_RECV : CURLPAUSE_CONT);
}

Error Transfer::error_of(CURLcode code) const {
  std::string why = curl_message_[0] != '\0' ? curl_message_ : curl_easy_strerror(code);
  if (code == CURLE_OPERATION_TIMEDOUT && delivered_head_) {
    why = "stalled: no data for " + std::to_string(request_.stall_timeout.count()) + " s";
  }
  const Code what = code_of(code);
  if (what == Code::failed_precondition) why += " (is the registry's CA configured?)";
  return Error(what, doing() + ": " + why);
}

}  // namespace pagein::net
