#include "control/client.h"

#include <httplib.h>

#include <map>
#include <nlohmann/json.hpp>

namespace pagein::control {
namespace {

constexpr time_t kTimeoutSeconds = 600;

httplib::Client make_client(const std::filesystem::path& socket) {
  httplib::Client client(socket.native(), 80);
  client.set_address_family(AF_UNIX);
  client.set_read_timeout(kTimeoutSeconds);
  client.set_write_timeout(kTimeoutSeconds);
  return client;
}

// The code that server.cpp's table made this of, as well as it can be told.
Code code_of(const std::string& text, int status) {
  for (const Code code :
       {Code::not_found, Code::already_exists, Code::invalid_argument, Code::corrupt_input,
        Code::unauthenticated, Code::unavailable, Code::timeout, Code::cancelled, Code::exhausted,
        Code::unsupported, Code::failed_precondition}) {
    if (text == to_string(code)) return code;
  }
  return status == 404 ? Code::not_found : Code::internal;
}

Result<std::string> take(const std::filesystem::path& socket, const httplib::Result& result) {
  if (!result) {
    return Error(Code::unavailable,
                 "no answer from pageind at " + socket.string() +
                     "; is it running (systemctl status pageind), and are you root?");
  }
  if (result->status == 200) return result->body;
  const auto json = nlohmann::json::parse(result->body, nullptr, /*allow_exceptions=*/false);
  if (json.is_object() && json.contains("error") && json["error"].is_string()) {
    const std::string code = json.value("code", std::string());
    return Error(code_of(code, result->status), json["error"].get<std::string>());
  }
  return Error(Code::internal,
               "pageind answered with HTTP status " + std::to_string(result->status));
}

}  // namespace

Result<std::string> call_get(const std::filesystem::path& socket, const std::string& path) {
  auto client = make_client(socket);
  return take(socket, client.Get(path));
}

Result<std::string> call_post(const std::filesystem::path& socket, const std::string& path,
                              const std::string& json) {
  auto client = make_client(socket);
  return take(socket, client.Post(path, json, "application/json"));
}

}  // namespace pagein::control
