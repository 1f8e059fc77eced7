#include "registry/call.h"

#include <time.h>

#include <algorithm>

#include "net/url.h"
#include "registry/http_errors.h"

namespace pagein::registry {

namespace {

std::string_view method_name(net::Method method) {
  switch (method) {
    case net::Method::get: return "GET";
    case net::Method::head: return "HEAD";
    case net::Method::post: return "POST";
    case net::Method::put: return "PUT";
    case net::Method::patch: return "PATCH";
    case net::Method::del: return "DELETE";
  }
  return "GET";
}

std::optional<std::chrono::seconds> retry_after_of(const net::Response& response) {
  const std::string* value = response.head.headers.find("Retry-After");
  return parse_retry_after(value == nullptr ? "" : *value, ::time(nullptr));
}

Refusal refusal_of(const net::Response& response, const std::string& used, unsigned earlier) {
  Refusal out{.status = response.head.status, .used = used, .challenges = {}, .earlier = earlier};
  for (const std::string_view field : response.head.headers.find_all("WWW-Authenticate")) {
    out.challenges.emplace_back(field);
  }
  return out;
}

}  // namespace

Caller::Caller(std::shared_ptr<Session> session, const oci::Reference& name,
               std::string_view actions)
    : session_(std::move(session)), endpoint_(session_->endpoint(name)) {
  target_ = {.origin = endpoint_.origin,
             .name = name.name(),
             .scope = "repository:" + name.repository() + ":" + std::string(actions),
             .tls = endpoint_.tls};
}

std::string Caller::doing(const CallSpec& spec) {
  return std::string(method_name(spec.method)) + " " + loggable_url(spec.url);
}

bool Caller::same_origin(const std::string& url) const {
  const Result<net::Url> a = net::parse_url(endpoint_.origin);
  const Result<net::Url> b = net::parse_url(url);
  return a.ok() && b.ok() && a->origin() == b->origin();
}

net::Request Caller::make_request(const CallSpec& spec, const std::string& authorization,
                                  net::Clock::time_point deadline) const {
  net::Request request;
  request.method = spec.method;
  request.url = spec.url;
  request.headers = spec.headers;
  request.body = std::string(spec.body);
  request.upload = spec.upload;
  request.upload_size = spec.upload_size;
  request.priority = spec.priority;
  request.tls = endpoint_.tls;
  request.deadline = deadline;
  request.stall_timeout = spec.stall_timeout;
  // An upload may go on at another host (storage): that gets no secrets of ours.
  if (!same_origin(spec.url)) return request;
  for (const auto& [name, value] : endpoint_.headers.all()) request.headers.add(name, value);
  if (!authorization.empty()) request.headers.add("Authorization", authorization);
  return request;
}

Result<net::Request> Caller::prepare(const CallSpec& spec) const {
  AuthTarget target = target_;
  if (!spec.scope.empty()) target.scope = spec.scope;
  ASSIGN_OR_RETURN(const std::string header, session_->auth().authorize_blocking(target));
  return make_request(spec, header, net::Clock::time_point::max());
}

Result<net::Response> Caller::run(const CallSpec& spec) const {
  Scheduler& scheduler = session_->scheduler();
  const RetryPolicy& policy = session_->options().retry;
  const net::Clock::time_point deadline = scheduler.now() + session_->options().call_timeout;
  AuthTarget target = target_;
  if (!spec.scope.empty()) target.scope = spec.scope;
  Result<std::string> header = session_->auth().authorize_blocking(target);
  unsigned refusals = 0;
  for (int failures = 1;; ++failures) {
    std::optional<std::chrono::seconds> retry_after;
    Error why(Code::internal, "");
    if (!header.ok()) {
      why = header.error();
    } else {
      Result<net::Response> response =
          session_->client().perform(make_request(spec, *header, deadline), spec.body_cap);
      if (response.ok()) {
        const int status = response->head.status;
        const bool refused = status == 401 || status == 403;
        if (!refused && !is_retryable_status(status)) return response;
        retry_after = retry_after_of(*response);
        why = error_of_response(doing(spec), status, response->body, retry_after);
        if (refused && !response->head.other_origin) {
          header =
              session_->auth().refresh_blocking(target, refusal_of(*response, *header, refusals++));
          if (header.ok()) {
            --failures;
            continue;
          }
          why = Error(header.error().code, why.message + ": " + header.error().message);
        }
      } else {
        why = response.error();
      }
    }
    const bool may_repeat = spec.idempotence == Idempotence::repeatable && !spec.upload;
    if (!is_retryable(why) || !may_repeat || failures >= policy.max_attempts) return why;
    const auto delay = policy.delay(failures, scheduler.random(), retry_after);
    if (scheduler.now() + delay >= deadline) {
      return Error(Code::timeout, why.message + "; no time left to try again");
    }
    scheduler.sleep(delay);
    if (!header.ok()) header = session_->auth().authorize_blocking(target);
  }
}

Result<std::string> follow_location(const Endpoint& endpoint, const std::string& base,
                                    const std::string& location) {
  ASSIGN_OR_RETURN(const net::Url from, net::parse_url(base));
  ASSIGN_OR_RETURN(net::Url to, net::resolve_url(from, location));
  ASSIGN_OR_RETURN(const net::Url home, net::parse_url(endpoint.origin));
  if (home.is_https() && !to.is_https() && to.host == home.host) {
    to.scheme = home.scheme;
    to.port = home.port;
  }
  return to.str();
}

std::string next_link(const net::Headers& headers) {
  const std::string* link = headers.find("Link");
  if (link == nullptr) return {};
  const size_t open = link->find('<');
  const size_t close = link->find('>');
  if (open == std::string::npos || close == std::string::npos || close < open) return {};
  if (link->find("rel=\"next\"", close) == std::string::npos &&
      link->find("rel=next", close) == std::string::npos) {
    return {};
  }
  return link->substr(open + 1, close - open - 1);
}

}  // namespace pagein::registry
