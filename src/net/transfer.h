// One request on its way: libcurl's easy handle, redirect hops, held-back data.
#pragma once

#include <curl/curl.h>

#include <memory>
#include <optional>
#include <string>

#include "net/http_client.h"
#include "net/url.h"

namespace pagein::net {

// Why a transfer's data is held back; bits.
enum Hold : unsigned {
  kHoldUser = 1,       // pause()
  kHoldClass = 2,      // pause_class()
  kHoldBandwidth = 4,  // its class has used up its bytes
  kHoldYield = 8,      // demand runs at this origin
};

class Transfer;

// What a transfer asks of the client while libcurl delivers to it.
class TransferPolicy {
 public:
  virtual ~TransferPolicy() = default;
  // Called before `bytes` of body are delivered; the Hold bits to wait for, or 0
  // (then the bytes are counted).
  virtual unsigned admit_data(const Transfer& transfer, size_t bytes) = 0;
  virtual void count_sent(size_t bytes) = 0;
  // libcurl opened a socket, or is about to close it.
  virtual void socket_opened(int fd) = 0;
  virtual void socket_closed(int fd) = 0;
  // The request is about to be sent by the connection with these ports.
  virtual void request_begins(const Transfer& transfer, int local_port, int peer_port) = 0;
};

// Confined to the net thread once started. Invariants:
//  T1 the handler sees on_headers at most once, for the last hop only, and
//     on_data only after it;
//  T2 after cancel() or an error in a callback the handler sees no more but
//     the on_done that the client calls.
class Transfer {
 public:
  Transfer(RequestId id, Request request, std::shared_ptr<ResponseHandler> handler);
  ~Transfer();
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  // Parses the URL. Before anything else.
  Status prepare();
  // A handle ready for curl_multi_add_handle, for the current hop.
  Result<CURL*> open(TransferPolicy* policy, const ClientOptions& options, CURLSH* share);
  void close();  // frees the handle, which is out of the multi handle by now

  // What the end of a hop means.
  enum class Outcome { done, next_hop };
  struct HopResult {
    Outcome outcome;
    Status status;  // for done
  };
  HopResult hop_ended(CURLcode code);

  void cancel() { cancelled_ = true; }
  bool cancelled() const { return cancelled_; }
  void hold(unsigned bits) { holds_ |= bits; }
  bool paused() const { return (holds_ & kHoldUser) != 0; }
  // Goes on with held data if nothing else holds it. Not inside a callback.
  void release(unsigned bits);
  void body_ready();  // not inside a callback
  void promote() { request_.priority = Priority::demand; }

  RequestId id() const { return id_; }
  const Request& request() const { return request_; }
  Priority priority() const { return request_.priority; }
  const std::string& origin() const { return origin_; }
  const std::shared_ptr<ResponseHandler>& handler() const { return handler_; }
  CURL* easy() const { return easy_; }
  bool was_held() const { return was_held_; }
  // "GET https://host/path"
  std::string doing() const;

 private:
  static size_t header_callback(char* data, size_t size, size_t count, void* self);
  static size_t write_callback(char* data, size_t size, size_t count, void* self);
  static size_t read_callback(char* data, size_t size, size_t count, void* self);
  static int open_callback(void* policy, curl_socket_t fd, curlsocktype purpose);
  static int close_callback(void* policy, curl_socket_t fd);
  static int request_callback(void* self, char* peer_ip, char* local_ip, int peer_port,
                              int local_port);
  static int seek_callback(void* self, curl_off_t offset, int origin);

  size_t on_header(std::string_view line);
  size_t on_body(ByteView data);
  size_t on_upload(std::span<uint8_t> out);
  Status head_complete();
  bool is_redirect() const;
  Status follow();
  Status rewind_body();
  bool has_body() const { return !request_.body.empty() || request_.upload != nullptr; }
  Status set_options(const ClientOptions& options, CURLSH* share);
  void set_socket_callbacks();
  void set_method();
  void set_tls();
  void set_headers();
  Error error_of(CURLcode code) const;

  RequestId id_;
  Request request_;  // method, headers and body change at a hop
  std::shared_ptr<ResponseHandler> handler_;
  TransferPolicy* policy_ = nullptr;
  Url first_;
  Url url_;
  std::string origin_;
  int hops_ = 0;
  bool other_origin_ = false;

  CURL* easy_ = nullptr;
  curl_slist* header_list_ = nullptr;
  char curl_message_[CURL_ERROR_SIZE] = {};

  ResponseHead head_;
  size_t header_bytes_ = 0;
  bool head_done_ = false;       // of this hop's final response
  bool delivered_head_ = false;  // to the handler
  std::string location_;         // set: this hop is a redirect that we follow
  uint64_t discarded_ = 0;
  size_t body_sent_ = 0;
  std::optional<Error> failure_;  // found in a callback

  unsigned holds_ = 0;
  bool was_held_ = false;
  bool recv_paused_ = false;
  bool send_paused_ = false;
  bool cancelled_ = false;
};

}  // namespace pagein::net
