#include "registry/auth.h"

#include <algorithm>
#include <future>
#include <optional>

#include "net/url.h"
#include "oci/json.h"
#include "registry/async_response.h"
#include "registry/base64.h"

namespace pagein::registry {

namespace {

constexpr size_t kMaxTokenAnswer = 1 << 20;
constexpr size_t kMaxToken = 64 << 10;
constexpr size_t kMaxScope = 4 << 10;
constexpr size_t kMaxTokens = 4096;                   // cached; a registry's user has a handful
constexpr std::chrono::seconds kDefaultLifetime{60};  // token specification, "expires_in"
constexpr std::chrono::seconds kMaxLifetime{86400};
constexpr std::chrono::seconds kBasicLifetime{600};  // then the provider is asked anew
constexpr std::chrono::seconds kTokenTimeout{30};

bool is_header_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 0x7f; });
}

Error unauthenticated(const AuthTarget& target, std::string_view why) {
  return Error(Code::unauthenticated, target.name + ": " + std::string(why));
}

std::string basic_header(const Credentials& credentials) {
  return "Basic " + base64_encode(credentials.username + ":" + credentials.password);
}

// realm?service=...&scope=...&scope=...
std::string token_url(const std::string& realm, const std::string& service,
                      const std::string& scope) {
  std::string url = realm.substr(0, realm.find('#'));
  char separator = url.find('?') == std::string::npos ? '?' : '&';
  auto add = [&](std::string_view name, std::string_view value) {
    url += separator + std::string(name) + "=" + net::percent_encode(value);
    separator = '&';
  };
  if (!service.empty()) add("service", service);
  for (size_t at = 0; at < scope.size();) {
    const size_t space = std::min(scope.find(' ', at), scope.size());
    if (space > at) add("scope", std::string_view(scope).substr(at, space - at));
    at = space + 1;
  }
  return url;
}

}  // namespace

bool realm_allowed(std::string_view origin_text, std::string_view realm_text) {
  const Result<net::Url> origin = net::parse_url(origin_text);
  const Result<net::Url> realm = net::parse_url(realm_text);
  if (!origin.ok() || !realm.ok()) return false;
  // A registry elsewhere has no business with services on this machine.
  if (realm->is_loopback() && !origin->is_loopback()) return false;
  if (realm->is_https()) return true;
  // In the clear only where the registry is too, and to no other machine.
  return !origin->is_https() &&
         (realm->host == origin->host || (realm->is_loopback() && origin->is_loopback()));
}

Result<TokenAnswer> parse_token_answer(ByteView json) {
  ASSIGN_OR_RETURN(const oci::Json document,
                   oci::parse_json(json, "token answer", {.max_bytes = kMaxTokenAnswer}));
  TokenAnswer out{.token = {}, .lifetime = kDefaultLifetime};
  ASSIGN_OR_RETURN(out.token, oci::json_string(document, "token"));
  if (out.token.empty()) {
    ASSIGN_OR_RETURN(out.token, oci::json_string(document, "access_token"));
  }
  if (out.token.empty() || out.token.size() > kMaxToken || !is_header_text(out.token)) {
    return Error(Code::corrupt_input, "token answer: has no usable token");
  }
  ASSIGN_OR_RETURN(const std::optional<uint64_t> seconds,
                   oci::json_unsigned(document, "expires_in"));
  if (seconds && *seconds > 0) {
    out.lifetime = std::chrono::seconds(
        std::min<uint64_t>(*seconds, static_cast<uint64_t>(kMaxLifetime.count())));
  }
  return out;
}

Authenticator::Authenticator(std::shared_ptr<net::Client> client,
                             std::shared_ptr<Scheduler> scheduler,
                             std::shared_ptr<CredentialProvider> credentials)
    : client_(std::move(client)),
      scheduler_(std::move(scheduler)),
      credentials_(std::move(credentials)) {}

void Authenticator::authorize(const AuthTarget& target, Completion done) {
  std::optional<Known> known;
  std::string header;
  {
    MutexLock lock(mutex_);
    const auto token = tokens_.find(key_of(target));
    if (token != tokens_.end() && token->second.expires > scheduler_->now()) {
      header = token->second.header;
    } else if (const auto it = known_.find(target.origin); it != known_.end()) {
      known = it->second;
    }
  }
  // Nothing known of this registry: ask without, and learn from its refusal.
  if (!known) return done(std::move(header));
  fetch(target, *known, target.scope, Choice::same, std::move(done));
}

Result<Authenticator::Known> Authenticator::choose(const AuthTarget& target, const Refusal& refusal,
                                                   std::string* scope) {
  std::optional<Known> basic;
  for (const std::string& field : refusal.challenges) {
    Result<std::vector<Challenge>> parsed = parse_challenges(field);
    if (!parsed.ok()) return parsed.error().with_context(target.name);
    for (const Challenge& challenge : *parsed) {
      if (challenge.scheme == "basic" && !basic) basic = Known{"basic", {}, {}};
      if (challenge.scheme != "bearer") continue;
      Known bearer{"bearer", challenge.param("realm"), challenge.param("service")};
      if (!realm_allowed(target.origin, bearer.realm)) {
        Result<net::Url> realm = net::parse_url(bearer.realm);
        return unauthenticated(target,
                               "the registry names a token service that its clients must "
                               "not be sent to: " +
                                   (realm.ok() ? realm->loggable() : "not a URL"));
      }
      if (const std::string asked = challenge.param("scope");
          !asked.empty() && asked.size() <= kMaxScope) {
        *scope = asked;
      }
      return bearer;
    }
  }
  if (basic) return *basic;
  MutexLock lock(mutex_);
  // A bare 403: what the registry asked for before may have expired.
  if (const auto it = known_.find(target.origin);
      it != known_.end() && refusal.challenges.empty()) {
    return it->second;
  }
  return unauthenticated(target, refusal.status == 403
                                     ? "access denied"
                                     : "the registry wants a kind of login that is not supported");
}

void Authenticator::refresh(const AuthTarget& target, const Refusal& refusal, Completion done) {
  const Key key = key_of(target);
  std::string scope = target.scope;
  Result<Known> known = choose(target, refusal, &scope);
  if (!known.ok()) return done(known.error());
  std::string newer;
  bool exhausted = false;
  {
    MutexLock lock(mutex_);
    known_[target.origin] = *known;
    const auto token = tokens_.find(key);
    if (token != tokens_.end()) {
      // Somebody else has refreshed since that request left.
      if (token->second.header != refusal.used && token->second.expires > scheduler_->now()) {
        newer = token->second.header;
      } else {
        tokens_.erase(token);
      }
    }
    const auto last = last_.find(key);
    exhausted = newer.empty() && refusal.earlier > 0 && last != last_.end() &&
                refusal.earlier >= last->second.candidates;
  }
  if (exhausted || refusal.earlier >= kMaxRefusals) {
    return done(unauthenticated(target, "access denied" + tried(key)));
  }
  if (!newer.empty()) return done(std::move(newer));
  const Choice choice = refusal.earlier > 0    ? Choice::next
                        : refusal.used.empty() ? Choice::same
                                               : Choice::same_anew;
  fetch(target, *known, scope, choice,
        [self = shared_from_this(), target, refusal = Refusal(refusal),
         done = std::move(done)](Result<std::string> header) mutable {
          if (!header.ok() || *header != refusal.used) return done(std::move(header));
          if (header->empty()) {
            return done(
                unauthenticated(target, "access denied, and no credentials are known for it"));
          }
          // What was refused is all that these credentials give.
          ++refusal.earlier;
          self->refresh(target, refusal, std::move(done));
        });
}

std::string Authenticator::tried(const Key& key) const {
  MutexLock lock(mutex_);
  const auto it = last_.find(key);
  if (it == last_.end() || it->second.sources.empty()) {
    return ", and no credentials are known for it";
  }
  return " to " + it->second.sources;
}

void Authenticator::fetch(const AuthTarget& target, const Known& known, const std::string& scope,
                          Choice choice, Completion done) {
  const Key key = key_of(target);
  {
    MutexLock lock(mutex_);
    Flight& flight = flights_[key];
    flight.waiting.push_back(std::move(done));
    if (flight.waiting.size() > 1) return;
    flight.scope = scope;
    flight.known = known;
    flight.target = target;
    flight.choice = choice;
  }
  if (credentials_ == nullptr) return with_credentials(key, std::vector<Credentials>());
  worker_.post([self = shared_from_this(), key, choice, name = target.name] {
    if (choice == Choice::same_anew) self->credentials_->forget(name);
    self->with_credentials(key, self->credentials_->get(name));
  });
}

void Authenticator::with_credentials(const Key& key, Result<std::vector<Credentials>> credentials) {
  if (!credentials.ok()) return complete(key, credentials.error());
  {
    MutexLock lock(mutex_);
    Flight& flight = flights_[key];
    flight.candidates = *std::move(credentials);
    if (flight.candidates.empty()) flight.candidates.emplace_back();
    if (last_.size() >= kMaxTokens) last_.clear();
    Last& last = last_[key];
    last.candidates = flight.candidates.size();
    last.sources.clear();
    for (const Credentials& candidate : flight.candidates) {
      if (candidate.empty()) continue;
      last.sources += (last.sources.empty() ? "" : ", ") +
                      (candidate.source.empty() ? "the login given" : candidate.source);
    }
    flight.candidate =
        (last.candidate + (flight.choice == Choice::next ? 1 : 0)) % flight.candidates.size();
  }
  try_candidate(key);
}

void Authenticator::try_candidate(const Key& key) {
  Flight flight;
  {
    MutexLock lock(mutex_);
    const Flight& mine = flights_[key];
    flight.scope = mine.scope;
    flight.known = mine.known;
    flight.target = mine.target;
    flight.candidates = {mine.candidates[mine.candidate]};
    flight.candidate = mine.candidate;
    last_[key].candidate = mine.candidate;
  }
  if (flight.known.scheme != "basic") return request_token(key, flight);
  const Credentials& credentials = flight.candidates.front();
  if (credentials.username.empty()) {
    return turned_down(key, unauthenticated(flight.target,
                                            "the registry wants a login, and no "
                                            "credentials are known for it"));
  }
  complete(key, Token{basic_header(credentials), scheduler_->now() + kBasicLifetime,
                      credentials.source, flight.candidate});
}

void Authenticator::turned_down(const Key& key, Error why) {
  bool more = false;
  {
    MutexLock lock(mutex_);
    Flight& flight = flights_[key];
    more = ++flight.tried < flight.candidates.size();
    if (more) flight.candidate = (flight.candidate + 1) % flight.candidates.size();
  }
  if (more) return try_candidate(key);
  complete(key, std::move(why));
}

void Authenticator::request_token(const Key& key, const Flight& flight) {
  const Credentials& credentials = flight.candidates.front();
  net::Request request;
  request.tls = flight.target.tls;
  request.deadline = net::Clock::now() + kTokenTimeout;
  request.headers.add("Accept", "application/json");
  if (!credentials.identity_token.empty()) {
    request.method = net::Method::post;
    request.url = flight.known.realm;
    request.headers.add("Content-Type", "application/x-www-form-urlencoded");
    request.body = "grant_type=refresh_token&client_id=pagein&service=" +
                   net::percent_encode(flight.known.service) +
                   "&scope=" + net::percent_encode(flight.scope) +
                   "&refresh_token=" + net::percent_encode(credentials.identity_token);
  } else {
    request.url = token_url(flight.known.realm, flight.known.service, flight.scope);
    if (!credentials.username.empty()) {
      request.headers.add("Authorization", basic_header(credentials));
    }
  }
  collect_response(*client_, std::move(request), kMaxTokenAnswer,
                   [self = shared_from_this(), key, flight](Result<net::Response> response) {
                     self->on_token(key, flight, std::move(response));
                   });
}

void Authenticator::on_token(const Key& key, const Flight& flight, Result<net::Response> response) {
  const std::string& realm = flight.known.realm;
  const Credentials& credentials = flight.candidates.front();
  const std::string from = "token service " + realm.substr(0, realm.find('?'));
  if (!response.ok()) {
    // A slow token service is no reason to give up for good.
    Error error = response.error();
    if (error.code == Code::timeout) error.code = Code::unavailable;
    return complete(key, error);
  }
  const int status = response->head.status;
  if (status == 400 || status == 401 || status == 403) {
    return turned_down(
        key, Error(Code::unauthenticated,
                   from + " answered " + std::to_string(status) +
                       (credentials.empty() ? tried(key)
                                            : tried(key) + "; are the credentials right?")));
  }
  if (status != 200) {
    return complete(
        key, Error(is_retryable_status(status) ? Code::unavailable : Code::failed_precondition,
                   from + " answered " + std::to_string(status)));
  }
  Result<TokenAnswer> answer = parse_token_answer(as_bytes(response->body));
  if (!answer.ok()) return complete(key, answer.error().with_context(from));
  const auto margin =
      std::min<std::chrono::seconds>(std::chrono::seconds(30), answer->lifetime / 10);
  complete(key, Token{"Bearer " + answer->token, scheduler_->now() + answer->lifetime - margin,
                      credentials.source, flight.candidate});
}

void Authenticator::complete(const Key& key, Result<Token> token) {
  std::vector<Completion> waiting;
  {
    MutexLock lock(mutex_);
    const auto it = flights_.find(key);
    if (it == flights_.end()) return;
    waiting = std::move(it->second.waiting);
    flights_.erase(it);
    if (token.ok()) {
      if (tokens_.size() >= kMaxTokens) tokens_.clear();
      tokens_[key] = *token;
    }
  }
  for (Completion& done : waiting) {
    if (token.ok()) {
      done(token->header);
    } else {
      done(token.error());
    }
  }
}

namespace {
// Runs an asynchronous call to its end.
Result<std::string> wait_for(const std::function<void(Authenticator::Completion)>& call) {
  auto promise = std::make_shared<std::promise<Result<std::string>>>();
  auto future = promise->get_future();
  call([promise](Result<std::string> header) { promise->set_value(std::move(header)); });
  return future.get();
}
}  // namespace

Result<std::string> Authenticator::authorize_blocking(const AuthTarget& target) {
  return wait_for([&](Completion done) { authorize(target, std::move(done)); });
}

Result<std::string> Authenticator::refresh_blocking(const AuthTarget& target,
                                                    const Refusal& refusal) {
  return wait_for([&](Completion done) { refresh(target, refusal, std::move(done)); });
}

}  // namespace pagein::registry
