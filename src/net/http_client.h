// An HTTP client over libcurl's multi interface: one net thread runs every
// transfer; callers hand in requests and get callbacks.
//
// Why HTTP/1.1 by default: bulk ranges want several TCP connections (each with
// its own congestion window), a paused transfer must not stall another, and
// libcurl lets a paused HTTP/2 stream buffer up to its 32 MiB window. HTTP/2
// can be allowed per request.
//
// Redirects are followed here and not by libcurl: at most 10 hops, and from the
// first hop to another origin (scheme, host, port) on only headers that carry
// no secrets go along (Accept, Content-Type, Range, If-Range).
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"

namespace pagein::net {

using Clock = std::chrono::steady_clock;
using RequestId = uint64_t;  // never 0, never reused by a Client

enum class Method { get, head, post, put, patch, del };
// Demand goes first: something waits for it.
enum class Priority : uint8_t { demand, prefetch, background };
inline constexpr size_t kPriorityCount = 3;

class Headers {
 public:
  void add(std::string name, std::string value);
  void remove(std::string_view name);
  // The first value of that name (names compare without case); nullptr: none.
  const std::string* find(std::string_view name) const;
  std::vector<std::string_view> find_all(std::string_view name) const;
  const std::vector<std::pair<std::string, std::string>>& all() const { return fields_; }

 private:
  std::vector<std::pair<std::string, std::string>> fields_;
};

// Shared by the requests of one host. Immutable once given to a request.
struct TlsOptions {
  enum class Verify { on, off };
  Verify verify = Verify::on;
  std::string ca_file;  // PEM; empty: the system's
  std::string ca_pem;   // PEM text of CAs to trust, instead of ca_file
  std::string client_cert_file;
  std::string client_key_file;
};

// What goes up, pulled on the net thread: must not block.
class BodyProvider {
 public:
  static constexpr size_t kLater = SIZE_MAX;
  virtual ~BodyProvider() = default;
  // Up to out.size() bytes; 0: the end; kLater: nothing yet, and somebody will
  // call Client::body_ready(id). An error ends the request with it.
  virtual Result<size_t> read(std::span<uint8_t> out) = 0;
  // Back to the first byte (for a redirect, or a connection that was closed
  // before use). unsupported: cannot, so the request fails there.
  virtual Status rewind() = 0;
};

enum class Redirects { follow, manual };
enum class HttpVersion { http1_1, http2_allowed };

struct Request {
  Method method = Method::get;
  std::string url;  // http or https, without user:password@
  Headers headers;
  std::string body;                      // sent if not empty ...
  std::shared_ptr<BodyProvider> upload;  // ... or this,
  uint64_t upload_size = 0;              // of exactly so many bytes
  Priority priority = Priority::demand;
  Redirects redirects = Redirects::follow;
  HttpVersion http_version = HttpVersion::http1_1;
  std::shared_ptr<const TlsOptions> tls;                  // nullptr: the defaults
  Clock::time_point deadline = Clock::time_point::max();  // for the whole, queueing included
  std::chrono::milliseconds connect_timeout{10000};
  // No byte either way for so long: the transfer has stalled. Not counted while paused.
  std::chrono::seconds stall_timeout{30};
};

struct ResponseHead {
  int status = 0;
  Headers headers;
  std::string url;            // that answered: the last hop's
  bool other_origin = false;  // a redirect left the request's origin
  // Content-Length, where the server gave one.
  std::optional<uint64_t> content_length() const;
};

// Callbacks of one request: on the net thread, one at a time, and they must
// not block. on_headers at most once (final response only), then on_data any
// number of times, then on_done exactly once; on_done may also come first.
// Whatever the HTTP status, a response that arrived whole ends with ok.
// The client drops its reference after on_done.
class ResponseHandler {
 public:
  virtual ~ResponseHandler() = default;
  virtual void on_headers(const ResponseHead& head) = 0;
  virtual void on_data(ByteView data) = 0;
  // unavailable: connection refused, reset or stalled, DNS; timeout: the
  // deadline passed; cancelled; invalid_argument: a bad URL; corrupt_input: not
  // HTTP, or more redirects than allowed; failed_precondition: TLS certificate
  // not trusted, or a CA or client certificate file that cannot be used.
  virtual void on_done(Status status) = 0;
};

struct Response {
  ResponseHead head;
  std::string body;
};

// Monotonic counters since the client was made.
struct Stats {
  uint64_t requests = 0;  // started, each redirect hop counted
  uint64_t failures = 0;  // ended with an error other than cancelled
  uint64_t connects = 0;  // new connections
  uint64_t bytes_received = 0;
  uint64_t bytes_sent = 0;
  uint64_t bytes_by_priority[kPriorityCount] = {};  // received
  uint64_t active = 0;                              // now
  uint64_t queued = 0;                              // now
};

// What was measured of one origin; zero where nothing was yet. Smoothed.
// first_byte is of demand and prefetch, which do not queue behind each other.
struct LinkEstimate {
  std::chrono::microseconds first_byte{0};  // request sent to first byte of the answer
  // The same at its best lately: what the way takes when nothing queues.
  std::chrono::microseconds least_first_byte{0};
  double bytes_per_second = 0;       // of one transfer's body, large ones only
  double peak_bytes_per_second = 0;  // of all together, at their best lately
  // Bytes that arrive within least_first_byte: fetching less saves nothing. (By
  // the mean it would grow with the load that it makes.)
  uint64_t bytes_per_round_trip() const;
};

struct ClientOptions {
  std::string user_agent = "pagein/" PAGEIN_VERSION;
  size_t max_connections = 128;            // kept and used in total
  size_t max_connections_per_origin = 16;  // transfers at once; the rest queues by priority
  // Per origin; demand may use every connection, the others leave it room.
  size_t max_prefetch_per_origin = 8;
  size_t max_background_per_origin = 4;
  // Hold background transfers of an origin while a demand one runs there, and
  // have no more of their bytes on the way than keeps the link busy.
  bool background_yields = false;
  // Request bodies and answers below this are not used for bytes_per_second.
  uint64_t min_throughput_sample = 256 << 10;
};

// Thread-safe. Destruction cancels what is left (on_done(cancelled) comes on
// the net thread) and joins; the last owner may be a callback.
class Client {
 public:
  // internal: libcurl or the thread could not start.
  static Result<std::shared_ptr<Client>> create(ClientOptions options = {});
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Never blocks; never calls the handler from inside. Admission is bounded by
  // callers: each request holds its handler until on_done.
  RequestId start(Request request, std::shared_ptr<ResponseHandler> handler);
  // No more on_headers or on_data begin after a cancel on the net thread; from
  // another thread one may be running. on_done(cancelled) follows unless the
  // request has just ended. Unknown ids are ignored, here and below.
  void cancel(RequestId id);
  // Holds back on_data; the connection's window then stops the server. Called
  // in on_data, no further on_data comes until resume. A paused transfer keeps
  // its connection but not its place among max_connections_per_origin.
  void pause(RequestId id);
  void resume(RequestId id);
  // Goes on as a demand request, at once where it was queued or held back.
  void promote(RequestId id);
  void body_ready(RequestId id);

  // Blocks for the whole response; exhausted if the body exceeds `body_cap`.
  // Not on the net thread (internal).
  Result<Response> perform(Request request, uint64_t body_cap);

  // Per origin; 0 stops new ones from starting.
  void set_class_limit(Priority priority, size_t transfers);
  // All transfers of the class hold back their data and none starts.
  void pause_class(Priority priority);
  void resume_class(Priority priority);
  // Bytes per second over all transfers of the class; 0: no limit.
  void set_class_bandwidth(Priority priority, uint64_t bytes_per_second);

  // Runs `task` on the net thread after `delay`, never from inside this call.
  // Tasks must not block. Dropped unrun when the client is destroyed.
  void run_after(std::chrono::nanoseconds delay, std::function<void()> task);
  bool on_net_thread() const;

  Stats stats() const;
  // Of the origin (scheme, host, port) of `url`.
  LinkEstimate link(std::string_view url) const;

 private:
  class Impl;
  explicit Client(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace pagein::net
