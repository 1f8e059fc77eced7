// Answers of registries that are not what was asked for, as errors.
#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "net/http_client.h"

namespace pagein::registry {

// 401, 403 -> unauthenticated; 404 -> not_found; 408, 429, 5xx -> unavailable;
// 405, 501 -> unsupported; 413 -> exhausted; others failed_precondition. The
// message has `doing`, the status and what a JSON error body (distribution-spec
// "Error Codes") says, made printable and short; of a 429 also when to come
// again (`retry_after`, from the header of that name).
Error error_of_response(std::string_view doing, int status, std::string_view body,
                        std::optional<std::chrono::seconds> retry_after = std::nullopt);

// "application/json; charset=utf-8" -> "application/json"
std::string media_type_of(const net::Headers& headers);

std::string loggable_url(std::string_view url);  // without query and fragment

}  // namespace pagein::registry
