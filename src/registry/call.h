// One blocking request to a registry with everything around it: authorization
// and its refresh, retries, the deadline.
#pragma once

#include <functional>
#include <string>

#include "net/http_client.h"
#include "oci/reference.h"
#include "registry/auth.h"
#include "registry/session.h"

namespace pagein::registry {

// What may be sent again after a failure without harm.
enum class Idempotence { repeatable, once };

struct CallSpec {
  net::Method method = net::Method::get;
  std::string url;
  net::Headers headers;
  std::string_view body;                      // must outlive the call
  std::shared_ptr<net::BodyProvider> upload;  // instead of body
  uint64_t upload_size = 0;
  std::string scope;            // of the token; "" as in the constructor
  uint64_t body_cap = 4 << 20;  // of the answer
  Idempotence idempotence = Idempotence::repeatable;
  net::Priority priority = net::Priority::demand;
  std::chrono::seconds stall_timeout{60};  // uploads: registries hash before they answer
};

// Thread-safe; blocks; not on the net thread.
class Caller {
 public:
  // `actions` on the repository: "pull" or "pull,push".
  Caller(std::shared_ptr<Session> session, const oci::Reference& name, std::string_view actions);

  // An answer of any status but 401, 403 (unless refreshing did not help:
  // unauthenticated) and retryable ones (retried, then unavailable).
  Result<net::Response> run(const CallSpec& spec) const;

  // Asks the hosts of hosts.toml in turn for what lies at `rest` of the repository ("manifests/x");
  // spec.url is set here. The first answer that `usable` accepts, or the last host's. A host that
  // fails, or whose answer is not usable, rests; one that has not got it (404) does not.
  // For `push` only the host that pushes go to is asked.
  using Check = std::function<Status(const net::Response&)>;
  struct Answer {
    net::Response response;
    std::string url;      // that was asked; for messages by loggable_url()
    std::string skipped;  // why hosts before it were not enough; "" if there were none
  };
  Result<Answer> fetch(Capability capability, std::string_view rest, CallSpec spec,
                       const Check& usable) const;

  // An authorized request for a caller that runs it itself, without retries.
  Result<net::Request> prepare(const CallSpec& spec) const;

  // "GET https://host/path"
  static std::string doing(const CallSpec& spec);
  const Endpoint& endpoint() const { return endpoint_; }
  Session& session() const { return *session_; }

 private:
  struct Place {  // where requests go
    Endpoint endpoint;
    AuthTarget target;
    bool last = true;  // nobody else could be asked: worth waiting and trying again
  };
  Place place(const Endpoint& endpoint) const;
  Result<net::Response> run_at(const Place& place, const CallSpec& spec) const;
  net::Request make_request(const Place& place, const CallSpec& spec,
                            const std::string& authorization,
                            net::Clock::time_point deadline) const;

  std::shared_ptr<Session> session_;
  oci::Reference name_;
  std::string actions_;
  Endpoint endpoint_;  // of uploads and of what is not fetched
  Status endpoint_problem_;
};

// Where an upload or a page goes on: `location` seen from `base`, brought back
// to https where a proxy in front of the registry made it forget that.
Result<std::string> follow_location(const Endpoint& endpoint, const std::string& base,
                                    const std::string& location);
// The URL of Link: <...>; rel="next"; "" if there is none.
std::string next_link(const net::Headers& headers);

}  // namespace pagein::registry
