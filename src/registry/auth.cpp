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
  fetch(target, *known, target.scope, std::move(done));
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
  std::string scope = target.scope;
  Result<Known> known = choose(target, refusal, &scope);
  if (!known.ok()) return done(known.error());
  std::string newer;
  {
    MutexLock lock(mutex_);
    known_[target.origin] = *known;
    const auto token = tokens_.find(key_of(target));
    if (token != tokens_.end()) {
      // Somebody else has refreshed since that request left.
      if (token->second.header != refusal.used && token->second.expires > scheduler_->now()) {
        newer = token->second.header;
      } else {
        tokens_.erase(token);
      }
    }
  }
  if (!newer.empty()) return done(std::move(newer));
  fetch(target, *known, scope,
        [target, used = refusal.used, done = std::move(done)](Result<std::string> header) {
          if (header.ok() && *header == used) {
            header = Result<std::string>(unauthenticated(
                target, used.empty() ? "access denied, and no credentials are known; log in first"
                                     : "the registry refuses these credentials"));
          }
          done(std::move(header));
        });
}

void Authenticator::fetch(const AuthTarget& target, const Known& known, const std::string& scope,
                          Completion done) {
  const Key key = key_of(target);
  {
    MutexLock lock(mutex_);
    Flight& flight = flights_[key];
    flight.waiting.push_back(std::move(done));
    if (flight.waiting.size() > 1) return;
    flight.scope = scope;
    flight.known = known;
    flight.target = target;
  }
  if (credentials_ == nullptr) return with_credentials(key, target, Credentials());
  worker_.post([self = shared_from_this(), key, target] {
    self->with_credentials(key, target, self->credentials_->get(target.name));
  });
}

void Authenticator::with_credentials(const Key& key, const AuthTarget& target,
                                     Result<Credentials> credentials) {
  if (!credentials.ok()) return complete(key, credentials.error());
  Flight flight;
  {
    MutexLock lock(mutex_);
    const Flight& mine = flights_[key];
    flight.scope = mine.scope;
    flight.known = mine.known;
    flight.target = mine.target;
  }
  if (flight.known.scheme == "basic") {
    if (credentials->username.empty()) {
      return complete(key, unauthenticated(target,
                                           "the registry wants a login, and no "
                                           "credentials are known for it"));
    }
    return complete(key, Token{basic_header(*credentials), scheduler_->now() + kBasicLifetime});
  }
  request_token(key, flight, *credentials);
}

void Authenticator::request_token(const Key& key, const Flight& flight,
                                  const Credentials& credentials) {
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
  collect_response(
      *client_, std::move(request), kMaxTokenAnswer,
      [self = shared_from_this(), key, realm = flight.known.realm](Result<net::Response> response) {
        self->on_token(key, realm, std::move(response));
      });
}

void Authenticator::on_token(const Key& key, const std::string& realm,
                             Result<net::Response> response) {
  const std::string from = "token service " + realm.substr(0, realm.find('?'));
  if (!response.ok()) {
    // A slow token service is no reason to give up for good.
    Error error = response.error();
    if (error.code == Code::timeout) error.code = Code::unavailable;
    return complete(key, error);
  }
  const int status = response->head.status;
  if (status != 200) {
    const bool refused = status == 400 || status == 401 || status == 403;
    return complete(key, Error(refused ? Code::unauthenticated
                                       : (is_retryable_status(status) ? Code::unavailable
                                                                      : Code::failed_precondition),
                               from + " answered " + std::to_string(status) +
                                   (refused ? "; are the credentials right?" : "")));
  }
  Result<TokenAnswer> answer = parse_token_answer(as_bytes(response->body));
  if (!answer.ok()) return complete(key, answer.error().with_context(from));
  const auto margin =
      std::min<std::chrono::seconds>(std::chrono::seconds(30), answer->lifetime / 10);
  complete(key, Token{"Bearer " + answer->token, scheduler_->now() + answer->lifetime - margin});
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
