#include "control/server.h"

#include <httplib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/guard.h"
#include "control/credentials.h"
#include "control/status.h"

namespace pagein::control {
namespace {

constexpr size_t kMaxBody = 1 << 20;
constexpr char kJson[] = "application/json";

int http_status(Code code) {
  switch (code) {
    case Code::not_found: return 404;
    case Code::already_exists:
    case Code::failed_precondition: return 409;
    case Code::invalid_argument:
    case Code::corrupt_input: return 400;
    case Code::unsupported: return 501;
    case Code::unavailable: return 503;
    case Code::timeout: return 504;
    case Code::exhausted: return 507;
    default: return 500;
  }
}

void answer(httplib::Response& response, const Status& status) {
  if (status.ok()) {
    response.set_content("{}\n", kJson);
    return;
  }
  const nlohmann::json error = {{"error", status.error().message},
                                {"code", std::string(to_string(status.error().code))}};
  response.status = http_status(status.error().code);
  response.set_content(error.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n",
                       kJson);
}

// The member of a JSON object body, a text; "" where it is not.
std::string text_of(const httplib::Request& request, const char* key) {
  const auto json = nlohmann::json::parse(request.body, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) return "";
  const auto it = json.find(key);
  return it != json.end() && it->is_string() ? it->get<std::string>() : "";
}

Status check_dir(const std::string& dir) {
  if (!dir.starts_with('/')) {
    return Error(Code::invalid_argument, "\"dir\" must be an absolute path");
  }
  return {};
}

}  // namespace

class Server::Impl {
 public:
  explicit Impl(node::Node& node) : node_(node) {}

  ~Impl() {
    control_.stop();
    metrics_.stop();
    for (std::thread* thread : {&control_thread_, &metrics_thread_}) {
      if (thread->joinable()) thread->join();
    }
    ::unlink(node_.config().control.c_str());
  }

  Status start() {
    routes();
    const std::filesystem::path& path = node_.config().control;
    RETURN_IF_ERROR(make_dirs(path.parent_path(), 0755));
    ::unlink(path.c_str());
    control_.set_address_family(AF_UNIX);
    control_.set_payload_max_length(kMaxBody);
    const mode_t old = ::umask(0177);  // nobody else may connect, from the first moment
    const bool bound = control_.bind_to_port(path.native(), 80);
    ::umask(old);
    if (!bound) {
      return Error(Code::internal, "cannot listen at " + path.string() +
                                       "; is its folder writable and the path short enough?");
    }
    control_thread_ =
        std::thread([this] { guard("control", [this] { control_.listen_after_bind(); }); });
    return start_metrics();
  }

 private:
  Status start_metrics() {
    const auto& [host, port] = node_.config().metrics;
    if (host.empty()) return {};
    metrics_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(metrics_text(node_), "text/plain; version=0.0.4");
    });
    if (!metrics_.bind_to_port(host, port)) {
      return Error(Code::internal, "cannot listen at metrics_address " + host + " port " +
                                       std::to_string(port) + "; is it taken?");
    }
    metrics_thread_ =
        std::thread([this] { guard("metrics", [this] { metrics_.listen_after_bind(); }); });
    return {};
  }

  void gc(const httplib::Request& request, httplib::Response& response) {
    const auto body = nlohmann::json::parse(request.body, nullptr, /*allow_exceptions=*/false);
    std::optional<uint64_t> max_bytes;
    if (!body.is_object()) {
      return answer(response, Error(Code::invalid_argument, "the body must be a JSON object"));
    }
    if (const auto it = body.find("max_bytes"); it != body.end()) {
      if (!it->is_number_unsigned()) {
        return answer(response,
                      Error(Code::invalid_argument, "\"max_bytes\" must be a number of bytes"));
      }
      max_bytes = it->get<uint64_t>();
    }
    const node::Node::Collected collected = node_.collect_garbage(max_bytes);
    const nlohmann::json result = {{"removed_layers", collected.removed},
                                   {"evicted_layers", collected.evicted.layers},
                                   {"evicted_bytes", collected.evicted.bytes},
                                   {"bytes", node_.layers().store().usage().bytes}};
    response.set_content(result.dump(2) + "\n", kJson);
  }

  void routes() {
    control_.Get("/v1/status", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(status_json(node_), kJson);
    });
    control_.Get("/v1/doctor", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(doctor_json(node_), kJson);
    });
    control_.Get("/v1/declines", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(declines_json(node_), kJson);
    });
    control_.Get("/v1/credentials", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(credentials_json(node_), kJson);
    });
    control_.Put("/v1/credentials", [this](const httplib::Request& request, httplib::Response& r) {
      answer(r, put_credentials(node_, request.body));
    });
    control_.Post("/v1/credentials/remove",
                  [this](const httplib::Request& request, httplib::Response& r) {
                    answer(r, remove_credentials(node_, request.body));
                  });
    control_.Get("/metrics", [this](const httplib::Request&, httplib::Response& response) {
      response.set_content(metrics_text(node_), "text/plain; version=0.0.4");
    });
    control_.Post("/v1/mount",
                  [this](const httplib::Request& request, httplib::Response& response) {
                    const std::string dir = text_of(request, "dir");
                    if (Status status = check_dir(dir); !status.ok())
                      return answer(response, status);
                    answer(response, node_.mount_image(text_of(request, "image"), dir));
                  });
    control_.Post("/v1/umount",
                  [this](const httplib::Request& request, httplib::Response& response) {
                    const std::string dir = text_of(request, "dir");
                    if (Status status = check_dir(dir); !status.ok())
                      return answer(response, status);
                    answer(response, node_.unmount_image(dir));
                  });
    record_routes();
    control_.Post("/v1/gc", [this](const httplib::Request& request, httplib::Response& response) {
      gc(request, response);
    });
    control_.Post("/v1/background/pause", [this](const httplib::Request&, httplib::Response& r) {
      node_.background().pause();
      answer(r, {});
    });
    control_.Post("/v1/background/resume", [this](const httplib::Request&, httplib::Response& r) {
      node_.background().resume();
      answer(r, {});
    });
  }

  void record_routes() {
    control_.Post("/v1/record",
                  [this](const httplib::Request& request, httplib::Response& response) {
                    const auto start = node_.start_recording(text_of(request, "image"));
                    if (!start.ok()) return answer(response, start.error());
                    response.set_content(recording_json(*start), kJson);
                  });
    control_.Get(R"(/v1/record/([0-9a-f]+))", [this](const httplib::Request& request,
                                                     httplib::Response& response) {
      const auto recorder = node_.recording(request.matches[1].str());
      if (!recorder.ok()) return answer(response, recorder.error());
      response.set_content("{\"reads\": " + std::to_string((*recorder)->count()) + "}\n", kJson);
    });
    control_.Get(R"(/v1/record/([0-9a-f]+)/reads)",
                 [this](const httplib::Request& request, httplib::Response& response) {
                   const auto recorder = node_.recording(request.matches[1].str());
                   if (!recorder.ok()) return answer(response, recorder.error());
                   startup::Trace trace;
                   trace.reads = (*recorder)->reads();
                   response.set_content(startup::write_trace(trace) + "\n", kJson);
                 });
    control_.Post("/v1/record/end",
                  [this](const httplib::Request& request, httplib::Response& response) {
                    answer(response, node_.end_recording(text_of(request, "id")));
                  });
  }

  node::Node& node_;
  httplib::Server control_;
  httplib::Server metrics_;
  std::thread control_thread_;
  std::thread metrics_thread_;
};

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Server::~Server() = default;

Result<std::unique_ptr<Server>> Server::start(node::Node& node) {
  auto impl = std::make_unique<Impl>(node);
  RETURN_IF_ERROR(impl->start());
  return std::unique_ptr<Server>(new Server(std::move(impl)));
}

}  // namespace pagein::control
