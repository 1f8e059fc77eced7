// For tests only: an HTTP/1.1 server on loopback that can misbehave at will,
// which real servers will not. One thread a connection.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace pagein::net {

struct FakeRequest {
  std::string method;
  std::string path;  // without query
  std::string query;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;

  std::string header(const std::string& name) const {
    const auto it = headers.find(name);
    return it == headers.end() ? std::string() : it->second;
  }
};

struct FakeResponse {
  enum class End { keep_alive, close, reset };
  using Send = std::function<bool(std::string_view)>;  // false: the peer has gone

  int status = 200;
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::optional<uint64_t> claimed_length;  // instead of body.size()
  End end = End::keep_alive;
  std::function<void(const Send&)> stream;  // writes the body itself (claimed_length needed)
  std::string raw;                          // instead of all the above
};

class FakeServer {
 public:
  using Handler = std::function<FakeResponse(const FakeRequest&)>;

  explicit FakeServer(Handler handler) : handler_(std::move(handler)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), size) != 0) std::abort();
    if (::listen(listener_, 128) != 0) std::abort();
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
    port_ = ntohs(address.sin_port);
    acceptor_ = std::thread([this] { accept_loop(); });
  }
  ~FakeServer() {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
      for (const int fd : connections_) ::shutdown(fd, SHUT_RDWR);
    }
    ::shutdown(listener_, SHUT_RDWR);
    acceptor_.join();
    for (std::thread& thread : threads_) thread.join();
    ::close(listener_);
  }
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  std::string host() const { return "127.0.0.1:" + std::to_string(port_); }
  std::string url(std::string_view path = "/") const {
    return "http://" + host() + std::string(path);
  }
  // Another origin that reaches the same server.
  std::string other_url(std::string_view path) const {
    return "http://localhost:" + std::to_string(port_) + std::string(path);
  }
  std::vector<FakeRequest> requests() const {
    std::lock_guard lock(mutex_);
    return requests_;
  }
  size_t connections() const {
    std::lock_guard lock(mutex_);
    return accepted_;
  }

 private:
  void accept_loop() {
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) return;
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      std::lock_guard lock(mutex_);
      if (stopping_) {
        ::close(fd);
        return;
      }
      ++accepted_;
      connections_.insert(fd);
      threads_.emplace_back([this, fd] { serve(fd); });
    }
  }

  void serve(int fd) {
    std::string buffer;
    bool open = true;
    while (open) {
      FakeRequest request;
      if (!read_request(fd, &buffer, &request)) break;
      {
        std::lock_guard lock(mutex_);
        requests_.push_back(request);
      }
      open = answer(fd, request, handler_(request));
    }
    std::lock_guard lock(mutex_);
    connections_.erase(fd);
    ::close(fd);
  }

  static bool fill(int fd, std::string* buffer) {
    char chunk[64 << 10];
    const ssize_t n = ::recv(fd, chunk, sizeof chunk, 0);
    if (n <= 0) return false;
    buffer->append(chunk, static_cast<size_t>(n));
    return true;
  }

  static bool read_request(int fd, std::string* buffer, FakeRequest* request) {
    size_t end;
    while ((end = buffer->find("\r\n\r\n")) == std::string::npos) {
      if (!fill(fd, buffer)) return false;
    }
    const std::string head = buffer->substr(0, end + 2);
    buffer->erase(0, end + 4);
    size_t line_end = head.find("\r\n");
    const std::string line = head.substr(0, line_end);
    const size_t a = line.find(' ');
    const size_t b = line.rfind(' ');
    request->method = line.substr(0, a);
    std::string target = line.substr(a + 1, b - a - 1);
    const size_t question = target.find('?');
    request->path = target.substr(0, question);
    if (question != std::string::npos) request->query = target.substr(question + 1);
    for (size_t at = line_end + 2; at < head.size();) {
      line_end = head.find("\r\n", at);
      const std::string field = head.substr(at, line_end - at);
      at = line_end + 2;
      const size_t colon = field.find(':');
      std::string name = field.substr(0, colon);
      std::transform(name.begin(), name.end(), name.begin(), ::tolower);
      request->headers[name] = colon + 2 <= field.size() ? field.substr(colon + 2) : std::string();
    }
    const std::string length = request->header("content-length");
    const size_t want = length.empty() ? 0 : std::stoul(length);
    while (buffer->size() < want) {
      if (!fill(fd, buffer)) return false;
    }
    request->body = buffer->substr(0, want);
    buffer->erase(0, want);
    return true;
  }

  static bool send_all(int fd, std::string_view data) {
    while (!data.empty()) {
      const ssize_t n = ::send(fd, data.data(), data.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      data.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }

  // False: the connection is to be closed.
  static bool answer(int fd, const FakeRequest& request, const FakeResponse& response) {
    bool ok = true;
    if (!response.raw.empty()) {
      ok = send_all(fd, response.raw);
    } else {
      std::string head = "HTTP/1.1 " + std::to_string(response.status) + " Status\r\n";
      for (const auto& [name, value] : response.headers) head += name + ": " + value + "\r\n";
      const bool bodiless = response.status == 204 || response.status == 304;
      if (!bodiless) {
        head += "Content-Length: " +
                std::to_string(response.claimed_length.value_or(response.body.size())) + "\r\n";
      }
      if (response.end == FakeResponse::End::close) head += "Connection: close\r\n";
      ok = send_all(fd, head + "\r\n");
      if (ok && request.method != "HEAD" && !bodiless) {
        if (response.stream) {
          response.stream([&](std::string_view data) { return ok = ok && send_all(fd, data); });
        } else {
          ok = send_all(fd, response.body);
        }
      }
    }
    if (response.end == FakeResponse::End::reset) {
      const linger hard{.l_onoff = 1, .l_linger = 0};
      ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    }
    return ok && response.end == FakeResponse::End::keep_alive;
  }

  Handler handler_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::thread acceptor_;
  mutable std::mutex mutex_;
  bool stopping_ = false;
  std::set<int> connections_;
  std::vector<std::thread> threads_;
  std::vector<FakeRequest> requests_;
  size_t accepted_ = 0;
};

}  // namespace pagein::net
