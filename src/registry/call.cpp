#include "registry/call.h"

#include <time.h>

#include <algorithm>

#include "base/log.h"
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
    : session_(std::move(session)),
      name_(name),
      actions_(actions),
      endpoint_(session_->endpoint(name)) {
  if (session_->options().hosts_dir.empty()) return;
  const bool push = actions.find("push") != std::string_view::npos;
  auto endpoints = session_->endpoints(name, push ? Capability::push : Capability::pull);
  if (endpoints.ok()) endpoint_ = push ? endpoints->front() : endpoints->back();
  else endpoint_problem_ = endpoints.error();
}

Caller::Place Caller::place(const Endpoint& endpoint) const {
  return {.endpoint = endpoint,
          .target = {.origin = endpoint.origin,
                     .name = endpoint.credentials_name(name_),
                     .scope = "repository:" + name_.repository() + ":" + actions_,
                     .tls = endpoint.tls}};
}

std::string Caller::doing(const CallSpec& spec) {
  return std::string(method_name(spec.method)) + " " + loggable_url(spec.url);
}

namespace {
bool same_origin(const std::string& one, const std::string& other) {
  const Result<net::Url> a = net::parse_url(one);
  const Result<net::Url> b = net::parse_url(other);
  return a.ok() && b.ok() && a->origin() == b->origin();
}
}  // namespace

net::Request Caller::make_request(const Place& place, const CallSpec& spec,
                                  const std::string& authorization,
                                  net::Clock::time_point deadline) const {
  net::Request request;
  request.method = spec.method;
  request.url = spec.url;
  request.headers = spec.headers;
  request.body = std::string(spec.body);
  request.upload = spec.upload;
  request.upload_size = spec.upload_size;
  request.priority = spec.priority;
  request.tls = place.endpoint.tls;
  request.deadline = deadline;
  request.stall_timeout = spec.stall_timeout;
  if (place.endpoint.dial_timeout.count() > 0) {
    request.connect_timeout = place.endpoint.dial_timeout;
  }
  if (!place.last) {
    request.stall_timeout = session_->options().mirror_patience;
    request.connect_timeout =
        std::min<std::chrono::milliseconds>(request.connect_timeout, request.stall_timeout);
  }
  // An upload may go on at another host (storage): that gets no secrets of ours.
  if (!same_origin(place.endpoint.origin, spec.url)) return request;
  for (const auto& [name, value] : place.endpoint.headers.all()) request.headers.add(name, value);
  if (!authorization.empty()) request.headers.add("Authorization", authorization);
  return request;
}

Result<net::Request> Caller::prepare(const CallSpec& spec) const {
  RETURN_IF_ERROR(endpoint_problem_);
  Place at = place(endpoint_);
  if (!spec.scope.empty()) at.target.scope = spec.scope;
  ASSIGN_OR_RETURN(const std::string header, session_->auth().authorize_blocking(at.target));
  return make_request(at, spec, header, net::Clock::time_point::max());
}

Result<net::Response> Caller::run(const CallSpec& spec) const {
  RETURN_IF_ERROR(endpoint_problem_);
  return run_at(place(endpoint_), spec);
}

Result<Caller::Answer> Caller::fetch(Capability capability, std::string_view rest, CallSpec spec,
                                     const Check& usable) const {
  ASSIGN_OR_RETURN(std::vector<Endpoint> endpoints, session_->endpoints(name_, capability));
  if (capability == Capability::push) endpoints.resize(1);
  const std::vector<size_t> order = session_->order(endpoints);
  std::string skipped;
  std::optional<Result<Answer>> registry;  // what the registry itself said
  for (size_t i = 0; i < order.size(); ++i) {
    const Endpoint& endpoint = endpoints[order[i]];
    Place at = place(endpoint);
    at.last = i + 1 == order.size();
    spec.url = endpoint.url(name_.repository(), rest);
    Result<net::Response> response = run_at(at, spec);
    const bool absent = response.ok() && response->head.status == 404;
    const bool failed = !response.ok() || (response->head.status >= 400 && !absent);
    Status verdict;
    if (response.ok() && !failed && !absent) verdict = usable(*response);
    if (!failed && !absent && verdict.ok()) {
      session_->health().answered(endpoint.key());
      return Answer{*std::move(response), spec.url, std::move(skipped)};
    }
    if (order.size() > 1 && !absent) {
      session_->health().failed(
          endpoint.key(),
          failed ? HostHealth::Failure::no_answer : HostHealth::Failure::wrong_bytes,
          session_->scheduler().now());
    }
    const std::string why =
        !response.ok()  ? response.error().message
        : !verdict.ok() ? verdict.error().message
                        : doing(spec) + ": answered " + std::to_string(response->head.status);
    if (!at.last) log::debug("a host could not help", {{"why", why}});
    Result<Answer> said = !verdict.ok() ? Result<Answer>(verdict.error())
                          : response.ok()
                              ? Result<Answer>(Answer{*std::move(response), spec.url, {}})
                              : Result<Answer>(response.error());
    if (!endpoint.mirror || (at.last && !registry)) registry = std::move(said);
    else skipped += (skipped.empty() ? "" : "; ") + why;
  }
  if (!registry->ok() && !skipped.empty()) {
    return Error(registry->error().code, registry->error().message + "; before that, " + skipped);
  }
  if (registry->ok()) (*registry)->skipped = std::move(skipped);
  return *std::move(registry);
}

Result<net::Response> Caller::run_at(const Place& place, const CallSpec& spec) const {
  Scheduler& scheduler = session_->scheduler();
  const RetryPolicy& policy = session_->options().retry;
  const net::Clock::time_point deadline = scheduler.now() + session_->options().call_timeout;
  AuthTarget target = place.target;
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
          session_->client().perform(make_request(place, spec, *header, deadline), spec.body_cap);
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
    if (!is_retryable(why) || !may_repeat || !place.last || failures >= policy.max_attempts)
      return why;
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
