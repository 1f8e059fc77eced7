#include "registry/http_errors.h"

#include "oci/json.h"
#include "registry/retry.h"

namespace pagein::registry {

namespace {

constexpr size_t kMaxErrorBody = 64 << 10;
constexpr size_t kMaxShown = 300;

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kMaxShown)) {
    out += static_cast<unsigned char>(c) < ' ' || c == 0x7f ? ' ' : c;
  }
  return out;
}

// "CODE: message" of the first error; "" if the body is nothing of the kind.
std::string registry_message(std::string_view body) {
  if (body.empty() || body.size() > kMaxErrorBody) return {};
  const Result<oci::Json> document = oci::parse_json(as_bytes(body), "error");
  if (!document.ok()) return {};
  const oci::Json* errors = oci::json_find(*document, "errors");
  if (errors == nullptr || !errors->is_array() || errors->empty()) return {};
  const Result<std::string> code = oci::json_string((*errors)[0], "code");
  const Result<std::string> message = oci::json_string((*errors)[0], "message");
  std::string out = code.ok() ? *code : "";
  if (message.ok() && !message->empty()) out += (out.empty() ? "" : ": ") + *message;
  return printable(out);
}

Code code_of(int status) {
  if (status == 401 || status == 403) return Code::unauthenticated;
  if (status == 404) return Code::not_found;
  if (is_retryable_status(status)) return Code::unavailable;
  if (status == 405 || status == 501) return Code::unsupported;
  if (status == 413) return Code::exhausted;
  return Code::failed_precondition;
}

}  // namespace

Error error_of_response(std::string_view doing, int status, std::string_view body,
                        std::optional<std::chrono::seconds> retry_after) {
  std::string message = std::string(doing) + ": the server answered " + std::to_string(status);
  if (const std::string said = registry_message(body); !said.empty()) message += " (" + said + ")";
  if (status == 429) {
    message += "; it limits how often it may be asked";
    if (retry_after) message += ": come again in " + std::to_string(retry_after->count()) + " s";
  }
  return Error(code_of(status), message);
}

std::string media_type_of(const net::Headers& headers) {
  const std::string* value = headers.find("Content-Type");
  if (value == nullptr) return {};
  std::string out = value->substr(0, value->find(';'));
  while (out.ends_with(' ')) out.pop_back();
  return out;
}

std::string loggable_url(std::string_view url) {
  return std::string(url.substr(0, url.find_first_of("?#")));
}

}  // namespace pagein::registry
