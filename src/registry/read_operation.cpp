#include "registry/read_operation.h"

#include <time.h>

#include <algorithm>

#include "base/log.h"
#include "registry/content_range.h"
#include "registry/http_errors.h"

namespace pagein::registry {

namespace {
// What is thrown away of a stream that starts before the range: little for a
// piece, more where the reader wants everything up to the end anyway.
constexpr uint64_t kMaxSkip = 32 << 20;
constexpr uint64_t kMaxSkipToEnd = 1ULL << 30;
constexpr uint64_t kMaxIgnoredBody = 64 << 10;  // of an answer we do not want
constexpr uint64_t kProgress = 256 << 10;       // that makes earlier failures forgotten
}  // namespace

ReadOperation::ReadOperation(std::shared_ptr<RegistryBlobSource> source, ReadId id,
                             const BlobRead& read, std::shared_ptr<BlobSink> sink)
    : source_(std::move(source)),
      id_(id),
      read_(read),
      sink_(std::move(sink)),
      priority_(read.priority) {}

std::string ReadOperation::doing() const {
  const std::string& url = final_url_.empty() ? url_ : final_url_;
  return "GET " +
         (url.empty() ? source_->name_.name() + " blob " + read_.digest.str() : loggable_url(url)) +
         " bytes " + std::to_string(position()) + "-" +
         std::to_string(read_.offset + read_.length - 1) + " of " + std::to_string(read_.blob_size);
}

Error ReadOperation::error(Code code, std::string_view why) const {
  return Error(code, doing() + ": " + std::string(why));
}

void ReadOperation::begin() {
  if (finished_) return;
  if (read_.length == 0 || read_.offset > read_.blob_size ||
      read_.length > read_.blob_size - read_.offset) {
    return finish(Error(Code::invalid_argument, "a range that is not within the blob"));
  }
  attempt();
}

void ReadOperation::attempt() {
  if (finished_) return;
  if (read_.deadline <= source_->session_->scheduler().now()) {
    return finish(error(Code::timeout, "the deadline passed"));
  }
  final_url_.clear();
  verdict_.reset();
  if (route_.empty()) {
    route_ = source_->route(read_.digest, position() != 0 || !is_rest_of_blob());
    at_ = 0;
    refusals_ = 0;
    registry_failure_.reset();
    mirror_failures_.clear();
  }
  host_ = route_[at_];
  const std::string target = source_->cached_target(host_, read_.digest);
  from_target_ = !target.empty();
  if (from_target_) return send(target, "");
  url_ = host_->endpoint.url(source_->name_.repository(), "blobs/" + read_.digest.str());
  source_->session_->auth().authorize(host_->auth,
                                      [self = shared_from_this()](Result<std::string> header) {
                                        self->act_on_authorization(std::move(header));
                                      });
}

// May come on any thread.
void ReadOperation::act_on_authorization(Result<std::string> header) {
  if (!source_->session_->client().on_net_thread()) {
    source_->session_->client().run_after(
        {}, [self = shared_from_this(), header] { self->act_on_authorization(header); });
    return;
  }
  if (finished_) return;
  if (header.ok()) return send(url_, *header);
  fail_over(header.error(), is_retryable(header.error()) ? Then::retry : Then::give_up,
            std::nullopt);
}

void ReadOperation::send(const std::string& url, const std::string& authorization) {
  url_ = url;
  authorization_ = authorization;
  skip_ = 0;
  whole_stream_ = false;
  ignored_ = 0;
  net::Request request;
  request.url = url;
  request.priority = priority_;
  request.deadline = read_.deadline;
  request.tls = from_target_ ? host_->target_tls : host_->endpoint.tls;
  if (host_->endpoint.dial_timeout.count() > 0) {
    request.connect_timeout = host_->endpoint.dial_timeout;
  }
  if (at_ + 1 < route_.size()) {
    request.stall_timeout = source_->session_->options().mirror_patience;
    request.connect_timeout =
        std::min<std::chrono::milliseconds>(request.connect_timeout, request.stall_timeout);
  }
  if (!from_target_) {
    for (const auto& [name, value] : host_->endpoint.headers.all()) {
      request.headers.add(name, value);
    }
    if (!authorization.empty()) request.headers.add("Authorization", authorization);
  }
  // The whole blob is asked for plainly: caches like that better.
  ranged_ = position() != 0 || !is_rest_of_blob();
  if (ranged_) {
    request.headers.add("Range", "bytes=" + std::to_string(position()) + "-" +
                                     std::to_string(read_.offset + read_.length - 1));
  }
  request_ = source_->session_->client().start(std::move(request), shared_from_this());
  if (paused_) source_->session_->client().pause(request_);
}

void ReadOperation::on_headers(const net::ResponseHead& head) {
  final_url_ = head.url;
  Verdict verdict = judge(head);
  if (verdict.next != Next::deliver) {
    verdict_ = std::move(verdict);
    return;
  }
  refusals_ = 0;
  source_->session_->health().answered(host_->endpoint.key());
  if (std::find(delivered_by_.begin(), delivered_by_.end(), host_) == delivered_by_.end()) {
    delivered_by_.push_back(host_);
  }
  if (head.other_origin) source_->remember_target(host_, read_.digest, head.url);
  MutexLock lock(source_->mutex_);
  source_->data_url_ = head.url;
}

ReadOperation::Verdict ReadOperation::judge(const net::ResponseHead& head) {
  const int status = head.status;
  if (status == 200 || status == 206) return judge_success(head);
  Error why = error_of_response(doing(), status, {});
  // Whatever a remembered target says, the registry may know a better one.
  if (from_target_) return {.next = Next::ask_registry, .error = std::move(why)};
  if (status == 401 || status == 403) return refused(head);
  if (is_retryable_status(status)) {
    const std::string* after = head.headers.find("Retry-After");
    const auto wait = parse_retry_after(after == nullptr ? "" : *after, ::time(nullptr));
    return {.next = Next::retry,
            .error = error_of_response(doing(), status, {}, wait),
            .retry_after = wait};
  }
  return {.next = Next::fail, .error = std::move(why)};
}

ReadOperation::Verdict ReadOperation::refused(const net::ResponseHead& head) {
  Error why = error_of_response(doing(), head.status, {});
  if (head.other_origin) {
    // A fresh redirect that refuses at once: clocks, or a slow connection.
    why.code = Code::unavailable;
    return {.next = Next::retry, .error = std::move(why)};
  }
  Verdict out{.next = Next::refresh, .error = std::move(why)};
  out.refusal.status = head.status;
  out.refusal.used = authorization_;
  out.refusal.earlier = refusals_++;
  for (const std::string_view field : head.headers.find_all("WWW-Authenticate")) {
    out.refusal.challenges.emplace_back(field);
  }
  return out;
}

ReadOperation::Verdict ReadOperation::judge_success(const net::ResponseHead& head) {
  auto wrong = [&](std::string_view why) {
    return Verdict{.next = from_target_ ? Next::ask_registry : Next::retry,
                   .error = error(Code::corrupt_input, why)};
  };
  const std::optional<uint64_t> length = head.content_length();
  if (head.status == 206) {
    const std::string* field = head.headers.find("Content-Range");
    const std::optional<ContentRange> range =
        field == nullptr ? std::nullopt : parse_content_range(*field);
    if (!range) return wrong("206 without a usable Content-Range");
    if (range->total && *range->total != read_.blob_size) {
      return wrong("the server's blob has " + std::to_string(*range->total) + " bytes");
    }
    if (range->first != position() || range->last != read_.offset + read_.length - 1) {
      return wrong("the server sent bytes " + std::to_string(range->first) + "-" +
                   std::to_string(range->last));
    }
    return {};
  }
  if (length && *length != read_.blob_size) {
    return wrong("the server's blob has " + std::to_string(*length) + " bytes");
  }
  if (!ranged_) return {};
  source_->set_range_support(host_, read_.digest, false);
  if (at_ + 1 < route_.size()) {
    // A mirror that has to load the blob first: it goes on with that without us.
    return {.next = Next::elsewhere,
            .error = error(Code::unsupported, "the host sends the whole blob for a range")};
  }
  whole_stream_ = true;
  skip_ = position();
  if (skip_ > (is_rest_of_blob() ? kMaxSkipToEnd : kMaxSkip)) {
    return {.next = Next::fail,
            .error = error(Code::unsupported,
                           "the server ignores ranges and sends the whole "
                           "blob, too much to skip; load it whole")};
  }
  return {};
}

void ReadOperation::on_data(ByteView data) {
  if (finished_ || stopped_) return;
  if (verdict_) {
    ignored_ += data.size();
    if (ignored_ > kMaxIgnoredBody) source_->session_->client().cancel(request_);
    return;
  }
  const uint64_t skipped = std::min<uint64_t>(skip_, data.size());
  skip_ -= skipped;
  data = data.subspan(static_cast<size_t>(skipped));
  data =
      data.first(static_cast<size_t>(std::min<uint64_t>(data.size(), read_.length - delivered_)));
  if (data.empty()) return;
  delivered_ += data.size();
  sink_->on_data(data);
  if (delivered_ < read_.length || finished_ || stopped_) return;
  // A stream that goes on after the range is of no more use.
  if (whole_stream_ && !is_rest_of_blob()) source_->session_->client().cancel(request_);
  finish({});
}

void ReadOperation::on_done(Status status) {
  request_ = 0;
  if (finished_) return;
  if (stopped_) return finish(Error(Code::cancelled, doing() + ": cancelled"));
  if (verdict_) {
    Verdict verdict = *std::exchange(verdict_, std::nullopt);
    return act(std::move(verdict));
  }
  if (status.ok()) {
    status = error(Code::unavailable, "the body ended early");
  } else {
    status.error().message = doing() + ": " + status.error().message;
  }
  if (from_target_) source_->forget_target(host_, read_.digest, url_);
  if (status.error().code == Code::timeout) return finish(std::move(status));  // our deadline
  fail_over(status.error(), is_retryable(status.error()) ? Then::retry : Then::give_up,
            std::nullopt);
}

void ReadOperation::act(Verdict verdict) {
  switch (verdict.next) {
    case Next::deliver: return;
    case Next::fail: return fail_over(*std::move(verdict.error), Then::give_up, std::nullopt);
    case Next::elsewhere: ++at_; return attempt();
    case Next::retry: return fail_over(*std::move(verdict.error), Then::retry, verdict.retry_after);
    case Next::ask_registry: source_->forget_target(host_, read_.digest, url_); return attempt();
    case Next::refresh: break;
  }
  final_url_.clear();
  source_->session_->auth().refresh(host_->auth, verdict.refusal,
                                    [self = shared_from_this()](Result<std::string> header) {
                                      self->act_on_authorization(std::move(header));
                                    });
}

void ReadOperation::fail_over(Error why, Then then,
                              std::optional<std::chrono::seconds> retry_after) {
  if (route_.size() > 1 && why.code != Code::not_found && why.code != Code::unsupported) {
    source_->session_->health().failed(host_->endpoint.key(),
                                       why.code == Code::corrupt_input
                                           ? HostHealth::Failure::wrong_bytes
                                           : HostHealth::Failure::no_answer,
                                       source_->session_->scheduler().now());
  }
  const bool last = at_ + 1 >= route_.size();
  if (!last) log::debug("a host could not help", {{"why", why.message}});
  if (!host_->endpoint.mirror || (last && !registry_failure_)) {
    registry_failure_ = Failure{std::move(why), then, retry_after};
  } else {
    mirror_failures_ += (mirror_failures_.empty() ? "" : "; ") + why.message;
  }
  if (!last) {
    ++at_;
    refusals_ = 0;
    return attempt();
  }
  Failure failure = *std::move(registry_failure_);
  if (!mirror_failures_.empty()) failure.why.message += "; before that, " + mirror_failures_;
  route_.clear();
  if (failure.then == Then::retry) return retry(std::move(failure.why), failure.retry_after);
  finish(std::move(failure.why));
}

void ReadOperation::retry(Error why, std::optional<std::chrono::seconds> retry_after) {
  Scheduler& scheduler = source_->session_->scheduler();
  const RetryPolicy& policy = source_->session_->options().retry;
  if (delivered_ >= delivered_at_failure_ + kProgress) failures_ = 0;
  delivered_at_failure_ = delivered_;
  ++failures_;
  if (failures_ >= policy.max_attempts) {
    why.message += "; gave up after " + std::to_string(failures_) + " attempts";
    return finish(std::move(why));
  }
  const auto delay = policy.delay(failures_, scheduler.random(), retry_after);
  if (read_.deadline != net::Clock::time_point::max() &&
      scheduler.now() + delay >= read_.deadline) {
    return finish(Error(Code::timeout, why.message + "; no time left to try again"));
  }
  scheduler.run_after(delay, [self = shared_from_this()] { self->attempt(); });
}

void ReadOperation::cancel() {
  if (finished_) return;
  if (request_ != 0) source_->session_->client().cancel(request_);
  finish(Error(Code::cancelled, doing() + ": cancelled"));
}

void ReadOperation::pause() {
  paused_ = true;
  if (request_ != 0) source_->session_->client().pause(request_);
}

void ReadOperation::resume() {
  paused_ = false;
  if (request_ != 0) source_->session_->client().resume(request_);
}

void ReadOperation::promote() {
  priority_ = net::Priority::demand;
  if (request_ != 0) source_->session_->client().promote(request_);
}

void ReadOperation::finish(Status status) {
  finished_ = true;
  if (status.ok() && read_.offset == 0 && is_rest_of_blob()) {
    source_->set_range_support(host_, read_.digest, true);
  }
  source_->ended(id_, {read_.digest, std::move(delivered_by_)});
  // It may hold whoever holds the source.
  const std::shared_ptr<BlobSink> sink = std::move(sink_);
  sink->on_done(std::move(status));
}

}  // namespace pagein::registry
