#include "node/config.h"

#define TOML_EXCEPTIONS 0
#include <toml++/toml.h>

#include <charconv>
#include <functional>
#include <map>

#include "base/file.h"

namespace pagein::node {
namespace {

// Reads the keys of one table; what nobody asked for is an unknown key.
class Section {
 public:
  Section(std::string name, const toml::table* table) : name_(std::move(name)), table_(table) {}

  void text(std::string_view key, const std::function<Status(const std::string&)>& take) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const auto value = node->value_exact<std::string>();
    if (!value) return fail(*node, key, "must be a text");
    if (Status status = take(*value); !status.ok()) fail(*node, key, status.error().message);
  }
  void flag(std::string_view key, bool* out) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    if (const auto value = node->value_exact<bool>()) *out = *value;
    else fail(*node, key, "must be true or false");
  }
  template <typename T>
  void number(std::string_view key, int64_t low, int64_t high, T&& take) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const auto value = node->value_exact<int64_t>();
    if (!value || *value < low || *value > high) {
      fail(*node, key,
           "must be a whole number from " + std::to_string(low) + " to " + std::to_string(high));
      return;
    }
    take(*value);
  }
  void texts(std::string_view key, const std::function<Status(const std::string&)>& take) {
    const toml::node* node = find(key);
    if (node == nullptr) return;
    const toml::array* array = node->as_array();
    if (array == nullptr) return fail(*node, key, "must be a list of texts");
    for (const toml::node& element : *array) {
      const auto value = element.value_exact<std::string>();
      if (!value) return fail(element, key, "must be a list of texts");
      if (Status status = take(*value); !status.ok())
        return fail(element, key, status.error().message);
    }
  }
  Section section(std::string_view key) {
    const toml::node* node = find(key);
    const std::string path = name_.empty() ? std::string(key) : name_ + "." + std::string(key);
    if (node != nullptr && node->as_table() == nullptr) fail(*node, key, "must be a table");
    return {path, node != nullptr ? node->as_table() : nullptr};
  }

  Status finish() {
    if (!error_.ok() || table_ == nullptr) return error_;
    for (const auto& [key, node] : *table_) {
      if (!known_.contains(std::string(key.str()))) fail(node, key.str(), "is not a known setting");
    }
    return error_;
  }

 private:
  const toml::node* find(std::string_view key) {
    known_.insert(std::string(key));
    return table_ != nullptr ? table_->get(key) : nullptr;
  }
  void fail(const toml::node& node, std::string_view key, std::string_view why) {
    if (!error_.ok()) return;
    const std::string full = name_.empty() ? std::string(key) : name_ + "." + std::string(key);
    error_ = Error(Code::corrupt_input, "line " + std::to_string(node.source().begin.line) + ": " +
                                            full + " " + std::string(why));
  }

  std::string name_;
  const toml::table* table_;
  std::set<std::string> known_;
  Status error_;
};

std::function<Status(const std::string&)> into_path(std::filesystem::path* out) {
  return [out](const std::string& value) -> Status {
    if (!value.starts_with('/')) return Error(Code::invalid_argument, "must be an absolute path");
    // Both go into mount options and unit files.
    if (value.find_first_of(":,\n") != std::string::npos) {
      return Error(Code::invalid_argument, "must not contain ':', ',' or a line end");
    }
    *out = value;
    return {};
  };
}

template <typename T>
std::function<Status(const std::string&)> one_of(T* out, std::map<std::string, T> choices) {
  return [out, choices = std::move(choices)](const std::string& value) -> Status {
    const auto it = choices.find(value);
    if (it != choices.end()) {
      *out = it->second;
      return {};
    }
    std::string names;
    for (const auto& [name, unused] : choices) names += (names.empty() ? "" : ", ") + name;
    return Error(Code::invalid_argument, "must be one of: " + names);
  };
}

std::function<Status(const std::string&)> into_text(std::string* out) {
  return [out](const std::string& value) -> Status {
    *out = value;
    return {};
  };
}

Status read_trust(Section section, Config* config) {
  section.texts("repositories", [&](const std::string& pattern) -> Status {
    const size_t star = pattern.find('*');
    if (pattern.empty() || pattern.find('/') == std::string::npos ||
        (star != std::string::npos && (star + 1 != pattern.size() || pattern[star - 1] != '/'))) {
      return Error(Code::invalid_argument,
                   "\"" + pattern + "\": write host/repository, or host/prefix/* for all below it");
    }
    config->trust.repositories.push_back(pattern);
    return {};
  });
  return section.finish();
}

Status read_registry(Section section, Config* config) {
  section.texts("plain_http", [&](const std::string& host) -> Status {
    config->registry.plain_http.insert(host);
    return {};
  });
  section.text("docker_config", [&](const std::string& path) -> Status {
    if (path.empty()) return {};  // the default, written out
    return into_path(&config->registry.docker_config)(path);
  });
  section.text("ca_file", into_text(&config->registry.ca_file));
  section.texts("credential_files", [&](const std::string& path) {
    return into_path(&config->registry.credential_files.emplace_back())(path);
  });
  const auto optional_path = [](std::filesystem::path* out) {
    return [out](const std::string& path) -> Status {
      if (path.empty()) return {};  // the default, written out
      return into_path(out)(path);
    };
  };
  section.text("credential_provider_config",
               optional_path(&config->registry.credential_provider_config));
  section.text("credential_provider_bin_dir",
               optional_path(&config->registry.credential_provider_bin_dir));
  section.text("hosts_dir", [&](const std::string& path) -> Status {
    config->registry.hosts_dir.clear();
    return path.empty() ? Status() : into_path(&config->registry.hosts_dir)(path);
  });
  RETURN_IF_ERROR(section.finish());
  if (config->registry.credential_provider_config.empty() !=
      config->registry.credential_provider_bin_dir.empty()) {
    return Error(Code::corrupt_input,
                 "registry.credential_provider_config and registry.credential_provider_bin_dir "
                 "need each other");
  }
  return {};
}

Status read_fetch(Section section, Config* config) {
  auto& fetch = config->fetch;
  section.number("deadline_seconds", 1, 86400,
                 [&](int64_t v) { fetch.deadline = std::chrono::seconds(v); });
  section.flag("background", &fetch.background);
  section.number("background_flights", 1, 64,
                 [&](int64_t v) { fetch.background_flights = static_cast<size_t>(v); });
  section.number("background_bytes_per_second", 0, INT64_MAX,
                 [&](int64_t v) { fetch.background_bytes_per_second = static_cast<uint64_t>(v); });
  section.number("connections_per_host", 1, 256,
                 [&](int64_t v) { fetch.connections_per_host = static_cast<size_t>(v); });
  section.flag("startup_pack", &fetch.startup_pack);
  section.number("prefetch_flights", 1, 8,
                 [&](int64_t v) { fetch.prefetch_flights = static_cast<size_t>(v); });
  return section.finish();
}

// "127.0.0.1:9464" or "[::1]:9464"; "" is off.
Status read_metrics_address(const std::string& text, Config* config) {
  if (text.empty()) return {};
  const std::string_view digits = std::string_view(text).substr(text.rfind(':') + 1);
  std::string host = text.substr(0, text.size() - digits.size());
  if (!host.empty()) host.pop_back();
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
    host = host.substr(1, host.size() - 2);
  }
  uint16_t port = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (host.empty() || error != std::errc() || end != digits.data() + digits.size() || port == 0) {
    return Error(Code::invalid_argument,
                 "must be host:port, for instance \"127.0.0.1:9464\"; not \"" + text + "\"");
  }
  config->metrics = {.host = std::move(host), .port = port};
  return {};
}

Status read_all(Section root, Config* config) {
  root.text("root", into_path(&config->root));
  root.text("socket", into_path(&config->socket));
  root.text("control", into_path(&config->control));
  root.text("metrics_address",
            [&](const std::string& text) { return read_metrics_address(text, config); });
  Section log = root.section("log");
  log.text("level", one_of<log::Level>(&config->log.level, {{"debug", log::Level::debug},
                                                            {"info", log::Level::info},
                                                            {"warn", log::Level::warn},
                                                            {"error", log::Level::error}}));
  log.text("format", one_of<log::Format>(&config->log.format, {{"text", log::Format::text},
                                                               {"json", log::Format::json}}));
  RETURN_IF_ERROR(log.finish());
  RETURN_IF_ERROR(read_trust(root.section("trust"), config));
  RETURN_IF_ERROR(read_registry(root.section("registry"), config));
  RETURN_IF_ERROR(read_fetch(root.section("fetch"), config));
  Section store = root.section("store");
  store.number("max_bytes", 0, INT64_MAX,
               [&](int64_t v) { config->store.max_bytes = static_cast<uint64_t>(v); });
  store.number("max_percent", 1, 100,
               [&](int64_t v) { config->store.max_percent = static_cast<unsigned>(v); });
  RETURN_IF_ERROR(store.finish());
  Section section = root.section("mount");
  using mount::EngineChoice;
  section.text("engine", one_of<EngineChoice>(&config->mount.engine,
                                              {{"auto", EngineChoice::automatic},
                                               {"erofs", EngineChoice::erofs},
                                               {"erofs-loop", EngineChoice::erofs_loop},
                                               {"fuse", EngineChoice::fuse}}));
  section.number("threads", 1, 64,
                 [&](int64_t v) { config->mount.threads = static_cast<unsigned>(v); });
  section.flag("buffered", &config->mount.buffered);
  RETURN_IF_ERROR(section.finish());
  return root.finish();
}

constexpr uint64_t kMaxConfigFile = 1 << 20;

}  // namespace

Result<Config> parse_config(std::string_view text) {
  const toml::parse_result parsed = toml::parse(text);
  if (!parsed) {
    const toml::parse_error& error = parsed.error();
    return Error(Code::corrupt_input, "line " + std::to_string(error.source().begin.line) + ": " +
                                          std::string(error.description()));
  }
  Config config;
  RETURN_IF_ERROR(read_all(Section("", &parsed.table()), &config));
  return config;
}

Result<Config> load_config(const std::filesystem::path& path) {
  ASSIGN_OR_RETURN(const std::string text, read_file(path, kMaxConfigFile));
  Result<Config> config = parse_config(text);
  if (!config.ok()) return config.error().with_context(path.string());
  return config;
}

}  // namespace pagein::node
