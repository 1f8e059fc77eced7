#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <atomic>

namespace pagein::log {
namespace {

std::atomic<Format> g_format{Format::text};

spdlog::logger& logger() {
  static std::shared_ptr<spdlog::logger> instance = [] {
    auto made = spdlog::stderr_logger_mt("pagein");
    made->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
    made->flush_on(spdlog::level::info);
    return made;
  }();
  return *instance;
}

spdlog::level::level_enum spd_level(Level level) {
  switch (level) {
    case Level::debug: return spdlog::level::debug;
    case Level::info: return spdlog::level::info;
    case Level::warn: return spdlog::level::warn;
    case Level::error: return spdlog::level::err;
  }
  return spdlog::level::info;
}

void append_escaped(std::string* out, std::string_view text) {
  static constexpr char kHex[] = "0123456789abcdef";
  *out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += c;
    } else if (c == '\n') {
      *out += "\\n";
    } else if (byte < 0x20 || byte == 0x7f) {
      *out += "\\u00";
      *out += kHex[byte >> 4];
      *out += kHex[byte & 15];
    } else {
      *out += c;
    }
  }
  *out += '"';
}

bool plain(std::string_view text) {
  if (text.empty()) return false;
  for (const char c : text) {
    if (c <= ' ' || c == '"' || c == '\\' || c == '=' || c == 0x7f) return false;
  }
  return true;
}

}  // namespace

void configure(Level level, Format format) {
  g_format = format;
  logger().set_level(spd_level(level));
  // spdlog has no JSON escaping of its own: the payload is made below, the
  // pattern only frames it.
  logger().set_pattern(format == Format::json
                           ? R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l",%v})"
                           : "%Y-%m-%dT%H:%M:%S.%e%z %^%l%$ %v");
}

bool enabled(Level level) { return logger().should_log(spd_level(level)); }

void write(Level level, std::string_view message, Fields fields) {
  spdlog::logger& out = logger();
  if (!out.should_log(spd_level(level))) return;
  std::string line;
  if (g_format == Format::json) {
    line = "\"msg\":";
    append_escaped(&line, message);
    for (const Field& field : fields) {
      line += ',';
      append_escaped(&line, field.key);
      line += ':';
      if (field.quoted) append_escaped(&line, field.value);
      else line += field.value;
    }
  } else {
    line = message;
    for (const Field& field : fields) {
      line += ' ';
      line += field.key;
      line += '=';
      if (!field.quoted || plain(field.value)) line += field.value;
      else append_escaped(&line, field.value);
    }
  }
  out.log(spd_level(level), "{}", line);
}

}  // namespace pagein::log
