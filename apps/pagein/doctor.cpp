// pagein doctor: what this node can do, and why not.
#include <sys/stat.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "apps/pagein/commands.h"
#include "base/file.h"
#include "control/client.h"
#include "mount/kernel_facts.h"

namespace pagein::cli {
namespace {

using nlohmann::json;

struct Flags {
  std::string socket = "/run/pagein/control.sock";
  std::string containerd_socket = "/run/containerd/containerd.sock";
  std::string containerd_config = "/etc/containerd/config.toml";
  bool json = false;
};

// One line of the report. `fail`: images cannot be mounted lazily here.
struct Check {
  enum class Level { ok, warn, fail } level = Level::ok;
  std::string text;
  std::vector<std::string> details;
};
using Level = Check::Level;
using Checks = std::vector<Check>;

const char* level_name(Level level) {
  switch (level) {
    case Level::ok: return "ok";
    case Level::warn: return "warn";
    case Level::fail: break;
  }
  return "fail";
}

std::string text(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}

std::vector<std::string> texts(const json& object, const char* key) {
  std::vector<std::string> out;
  for (const json& item : object.value(key, json::array())) {
    if (item.is_string()) out.push_back(item.get<std::string>());
  }
  return out;
}

bool is_socket(const std::string& path) {
  struct stat st;
  return ::stat(path.c_str(), &st) == 0 && S_ISSOCK(st.st_mode);
}

void check_engines(const json& doctor, Checks* out) {
  const json chosen = doctor.value("engine", json::object());
  if (!chosen.value("usable", false)) {
    out->push_back({Level::fail, "engine " + text(chosen, "name") + " does not work here",
                    texts(chosen, "findings")});
  }
  for (const json& engine : doctor.value("engines", json::array())) {
    const bool usable = engine.value("usable", false);
    const bool is_chosen = usable && text(engine, "name") == text(chosen, "name");
    out->push_back({usable ? Level::ok : Level::warn,
                    "engine " + text(engine, "name") +
                        (is_chosen ? " (chosen)" : (usable ? "" : " does not work here")),
                    texts(engine, "findings")});
  }
}

void check_kernel(const json& kernel, Checks* out) {
  Check check{Level::ok, "kernel " + text(kernel, "release"), {}};
  for (const json& fact : kernel.value("facts", json::array())) {
    const bool there = fact.value("there", false);
    const std::string note = text(fact, "note");
    check.details.push_back((there ? "has " : "lacks ") + text(fact, "name") +
                            (there || note.empty() ? "" : ": " + note));
  }
  out->push_back(std::move(check));
}

void check_node(const json& doctor, Checks* out) {
  const std::string type = text(doctor, "root_file_system");
  const bool local = type == "ext4" || type == "xfs" || type == "btrfs";
  out->push_back({local ? Level::ok : Level::warn,
                  "the store " + text(doctor, "root") + " is on " + type +
                      (local ? "" : "; ext4, xfs or btrfs on a local disk are what is tested"),
                  {}});
  const bool kept = doctor.value("keeps_descriptors", false);
  const bool takeover = doctor.value("engine", json::object()).value("takeover", false);
  if (kept && takeover) {
    out->push_back({Level::ok, "a restart of pageind leaves running containers alone", {}});
  } else if (kept) {
    out->push_back(
        {Level::warn, "a restart of pageind ends reads in flight (kernel before 6.9)", {}});
  } else {
    out->push_back({Level::warn,
                    "no service manager keeps pageind's descriptors: a restart ends the mounts of "
                    "images that are still being loaded",
                    {}});
  }
  const auto trust = texts(doctor, "trust");
  if (trust.empty()) {
    out->push_back(
        {Level::warn, "trust.repositories is empty: containerd loads no image lazily", {}});
  }
  for (const std::string& pattern : trust) {
    out->push_back({Level::ok, "trusts " + pattern, {}});
  }
}

// The plugin's section is looked for as text: two versions of the format, and
// files that it imports, are containerd's affair.
void check_containerd(const Flags& flags, const std::string& our_socket, Checks* out) {
  out->push_back(is_socket(flags.containerd_socket)
                     ? Check{Level::ok, "containerd's socket " + flags.containerd_socket, {}}
                     : Check{Level::warn, "no containerd socket " + flags.containerd_socket, {}});
  const Result<std::string> config = read_file(flags.containerd_config, 4 << 20);
  const std::string& path = flags.containerd_config;
  if (!config.ok()) {
    out->push_back(
        {Level::warn, "containerd's configuration is not readable: " + config.error().message, {}});
  } else if (config->find("proxy_plugins") == std::string::npos ||
             (!our_socket.empty() && config->find(our_socket) == std::string::npos)) {
    out->push_back({Level::warn,
                    path + " names no proxy plugin" +
                        (our_socket.empty() ? "" : " with our socket " + our_socket) +
                        " (deploy/containerd has the lines)",
                    {}});
  } else {
    out->push_back({Level::ok, path + " has the proxy plugin", {}});
  }
}

json local_kernel() {
  const mount::KernelFacts kernel = mount::load_kernel_facts(0);
  json facts = json::array();
  for (const mount::KernelFact& fact : kernel.facts) {
    facts.push_back({{"name", fact.name}, {"there", fact.there}, {"note", fact.note}});
  }
  return {{"release", kernel.release}, {"facts", std::move(facts)}};
}

Checks run_checks(const Flags& flags, json* doctor) {
  Checks checks;
  const Result<std::string> answer = control::call_get(flags.socket, "/v1/doctor");
  *doctor = answer.ok() ? json::parse(*answer, nullptr, /*allow_exceptions=*/false) : json();
  if (!doctor->is_object()) {
    checks.push_back(
        {Level::fail, answer.ok() ? "pageind's answer is not JSON" : answer.error().message, {}});
    *doctor = {{"kernel", local_kernel()}};
  } else {
    checks.push_back({Level::ok, "pageind " + text(*doctor, "version") + " answers", {}});
    check_engines(*doctor, &checks);
    check_node(*doctor, &checks);
  }
  check_kernel((*doctor)["kernel"], &checks);
  check_containerd(flags, text(*doctor, "socket"), &checks);
  return checks;
}

int run_doctor(const Flags& flags) {
  json doctor;
  const Checks checks = run_checks(flags, &doctor);
  bool failed = false;
  json list = json::array();
  for (const Check& check : checks) {
    failed |= check.level == Level::fail;
    list.push_back(
        {{"level", level_name(check.level)}, {"text", check.text}, {"details", check.details}});
  }
  if (flags.json) {
    doctor["checks"] = std::move(list);
    std::printf("%s\n", doctor.dump(2, ' ', false, json::error_handler_t::replace).c_str());
    return failed ? kFailed : kOk;
  }
  for (const Check& check : checks) {
    const char* mark = check.level == Level::ok ? "ok  " : "WARN";
    std::printf("%s %s\n", check.level == Level::fail ? "FAIL" : mark, check.text.c_str());
    for (const std::string& detail : check.details) std::printf("       %s\n", detail.c_str());
  }
  return failed ? kFailed : kOk;
}

}  // namespace

void add_doctor(CLI::App& app, Run* run) {
  CLI::App* doctor = app.add_subcommand("doctor", "Check what this node can do");
  doctor->footer(
      "Exit code 0: images can be mounted here; 1: they cannot, or pageind does not answer.");
  auto flags = std::make_shared<Flags>();
  doctor->add_option("--socket", flags->socket, "pageind's control socket")->capture_default_str();
  doctor->add_option("--containerd-socket", flags->containerd_socket, "containerd's socket")
      ->capture_default_str();
  doctor->add_option("--containerd-config", flags->containerd_config, "containerd's configuration")
      ->capture_default_str();
  doctor->add_flag("--json", flags->json, "Print JSON");
  doctor->callback([=] { *run = [=] { return run_doctor(*flags); }; });
}

}  // namespace pagein::cli
