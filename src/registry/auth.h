// Authorization for requests to registries: anonymous, basic, bearer tokens
// (distribution's token and OAuth2 specifications).
//
// Credentials go to the registry's own origin (Basic) and to the token realm
// that this origin named, never further: redirects drop them (net), answers of
// other origins are not asked for challenges (callers), and a realm must be
// https, or http where the registry itself is reached by http (see realm_allowed).
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "net/http_client.h"
#include "registry/challenge.h"
#include "registry/credentials.h"
#include "registry/retry.h"
#include "registry/task_thread.h"

namespace pagein::registry {

struct AuthTarget {
  std::string origin;  // of the registry: "https://registry-1.docker.io"
  std::string name;    // "docker.io/library/debian": whose credentials
  std::string scope;   // "repository:library/debian:pull"; several apart by spaces
  std::shared_ptr<const net::TlsOptions> tls;
};

// What a server said when it refused.
struct Refusal {
  int status = 401;                     // or 403
  std::string used;                     // the Authorization value that was sent
  std::vector<std::string> challenges;  // its WWW-Authenticate fields
  // Refusals of this very request before this one. Each further one moves on
  // to the next of several credentials.
  unsigned earlier = 0;
};

// Refusals of one request after which a caller need not ask for a refresh.
inline constexpr unsigned kMaxRefusals = 16;

// Thread-safe. Nothing blocks except the two *_blocking calls, which are not
// for the net thread. Tokens are cached per scope and renewed before they
// expire; one fetch per scope at a time.
class Authenticator : public std::enable_shared_from_this<Authenticator> {
 public:
  // The value for the Authorization header; "" for none. unauthenticated: no
  // credentials, or refused; unavailable: the token service did not answer.
  using Completion = std::function<void(Result<std::string>)>;

  Authenticator(std::shared_ptr<net::Client> client, std::shared_ptr<Scheduler> scheduler,
                std::shared_ptr<CredentialProvider> credentials);

  // For a first try. The completion may run inside the call, on the net
  // thread or on a thread that reads credentials.
  void authorize(const AuthTarget& target, Completion done);
  // After a 401 or 403: something better than `used`, else unauthenticated.
  void refresh(const AuthTarget& target, const Refusal& refusal, Completion done);

  Result<std::string> authorize_blocking(const AuthTarget& target);
  Result<std::string> refresh_blocking(const AuthTarget& target, const Refusal& refusal);

 private:
  struct Known {  // what an origin wants
    std::string scheme;
    std::string realm;
    std::string service;
  };
  struct Token {
    std::string header;
    net::Clock::time_point expires;
    std::string source;    // of the credentials behind it; "" for anonymous
    size_t candidate = 0;  // which of several
  };
  // Of several credentials; same_anew: they may have changed where they come from.
  enum class Choice { same, same_anew, next };
  struct Flight {
    std::vector<Completion> waiting;
    std::string scope;  // asked for: the server's, where it named one
    Known known;
    AuthTarget target;
    std::vector<Credentials> candidates;  // never empty: anonymous is one
    size_t candidate = 0;
    size_t tried = 0;
    Choice choice = Choice::same;
  };
  using Key = std::string;

  static Key key_of(const AuthTarget& target) { return target.origin + " " + target.scope; }
  Result<Known> choose(const AuthTarget& target, const Refusal& refusal, std::string* scope);
  // Joins or starts the flight of that key.
  void fetch(const AuthTarget& target, const Known& known, const std::string& scope, Choice choice,
             Completion done);
  void with_credentials(const Key& key, Result<std::vector<Credentials>> credentials);
  // Tries the flight's candidate.
  void try_candidate(const Key& key);
  void request_token(const Key& key, const Flight& flight);
  void on_token(const Key& key, const Flight& flight, Result<net::Response> response);
  // The candidate was turned down: the next one, or the end.
  void turned_down(const Key& key, Error why);
  // " to SOURCES", or that there are no credentials.
  std::string tried(const Key& key) const;
  void complete(const Key& key, Result<Token> token);

  const std::shared_ptr<net::Client> client_;
  const std::shared_ptr<Scheduler> scheduler_;
  const std::shared_ptr<CredentialProvider> credentials_;
  mutable Mutex mutex_;
  std::map<std::string, Known> known_ GUARDED_BY(mutex_);  // by origin
  std::map<Key, Token> tokens_ GUARDED_BY(mutex_);
  struct Last {  // used for a key
    size_t candidate = 0;
    size_t candidates = 1;
    std::string sources;  // of all of them, for messages
  };
  std::map<Key, Last> last_ GUARDED_BY(mutex_);
  std::map<Key, Flight> flights_ GUARDED_BY(mutex_);
  TaskThread worker_;  // reads credentials
};

// Whether a registry at `origin` may send its clients, with their credentials,
// to this token realm.
bool realm_allowed(std::string_view origin, std::string_view realm);

// {"token": ..., "expires_in": ...} -> value for Authorization and lifetime.
// Pure. corrupt_input if it is not that.
struct TokenAnswer {
  std::string token;
  std::chrono::seconds lifetime;
};
Result<TokenAnswer> parse_token_answer(ByteView json);

}  // namespace pagein::registry
