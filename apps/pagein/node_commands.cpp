// Commands that talk to pageind: mount, umount, status, why, gc.
#include <optional>

#include <nlohmann/json.hpp>

#include "apps/pagein/commands.h"
#include "control/client.h"

namespace pagein::cli {
namespace {

using nlohmann::json;

struct Flags {
  std::string socket = "/run/pagein/control.sock";
  bool json = false;
  std::string first;
  std::string second;
};

Result<json> get(const Flags& flags, const std::string& path) {
  ASSIGN_OR_RETURN(const std::string body, control::call_get(flags.socket, path));
  json value = json::parse(body, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return Error(Code::internal, "pageind's answer is not JSON");
  return value;
}

// For answers of our own daemon: a missing field shows as its default.
std::string text(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_string() ? it->get<std::string>() : "";
}
// The first digits of a digest, without its algorithm.
std::string short_digest(const std::string& digest) {
  const size_t colon = digest.find(':');
  return digest.substr(colon == std::string::npos ? 0 : colon + 1).substr(0, 12);
}
uint64_t number(const json& object, const char* key) {
  const auto it = object.find(key);
  return it != object.end() && it->is_number() ? it->get<uint64_t>() : 0;
}

std::string bar(uint64_t have, uint64_t all) {
  constexpr size_t kWidth = 24;
  const size_t filled = all == 0 ? kWidth : static_cast<size_t>(have * kWidth / all);
  return "[" + std::string(filled, '#') + std::string(kWidth - filled, '.') + "]";
}

void print_layer(const json& layer) {
  const uint64_t have = number(layer, "spans_present");
  const uint64_t all = number(layer, "spans");
  std::string state = layer.value("complete", false) ? "complete" : "loading";
  if (const std::string why = text(layer, "quarantined"); !why.empty())
    state = "QUARANTINED: " + why;
  std::printf("    %s  %9s  %s %3llu%%  %s\n", short_digest(text(layer, "digest")).c_str(),
              human_bytes(number(layer, "bytes")).c_str(), bar(have, all).c_str(),
              static_cast<unsigned long long>(all == 0 ? 100 : have * 100 / all), state.c_str());
}

void print_startup(const json& pack) {
  std::string state = text(pack, "state");
  if (const std::string why = text(pack, "why"); state == "failed") state += ": " + why;
  std::printf("  startup pack of %s: %s of %s in %.2f s, %s\n", text(pack, "image").c_str(),
              human_bytes(number(pack, "received_bytes")).c_str(),
              human_bytes(number(pack, "bytes")).c_str(), pack.value("seconds", 0.0),
              state.c_str());
}

int run_status(const Flags& flags) {
  auto status = get(flags, "/v1/status");
  if (!status.ok()) return fail(status.error());
  if (flags.json) {
    std::printf("%s\n", status->dump(2).c_str());
    return kOk;
  }
  const json store = status->value("store", json::object());
  const json fetched = status->value("fetched_bytes", json::object());
  std::printf(
      "pageind %s: store %s in %llu layers; fetched %s on demand, %s ahead, %s in the background\n",
      text(*status, "version").c_str(), human_bytes(number(store, "bytes")).c_str(),
      static_cast<unsigned long long>(number(store, "layers")),
      human_bytes(number(fetched, "demand")).c_str(),
      human_bytes(number(fetched, "prefetch")).c_str(),
      human_bytes(number(fetched, "background")).c_str());
  for (const json& image : status->value("images", json::array())) {
    if (image.value("mounts", json::array()).empty()) continue;
    size_t users = 0;
    bool daemon = false;
    for (const json& mount : image["mounts"]) {
      users += mount.value("holders", json::array()).size();
      daemon = daemon || mount.value("needs_daemon", false);
    }
    std::printf("  %s  %zu in use%s\n", text(image, "name").c_str(), users,
                daemon ? "" : ", from local data");
    for (const json& layer : image.value("layers", json::array())) print_layer(layer);
  }
  for (const json& pack : status->value("startup_packs", json::array())) print_startup(pack);
  for (const json& mount : status->value("manual_mounts", json::array())) {
    std::printf("  %s at %s\n", text(mount, "location").c_str(), text(mount, "dir").c_str());
  }
  return kOk;
}

int run_why(const Flags& flags) {
  auto status = get(flags, "/v1/status");
  if (!status.ok()) return fail(status.error());
  auto declines = get(flags, "/v1/declines");
  if (!declines.ok()) return fail(declines.error());
  auto matches = [&](const std::string& name) {
    return flags.first.empty() || name.find(flags.first) != std::string::npos ||
           (!name.empty() && flags.first.find(name) != std::string::npos);
  };
  json lazy = json::array();
  for (const json& image : status->value("images", json::array())) {
    if (matches(text(image, "name"))) lazy.push_back(image);
  }
  json ordinary = json::array();
  for (const json& decline : declines->value("declined", json::array())) {
    if (matches(text(decline, "image"))) ordinary.push_back(decline);
  }
  if (flags.json) {
    std::printf("%s\n", json{{"lazy", lazy}, {"ordinary", ordinary}}.dump(2).c_str());
    return kOk;
  }
  for (const json& image : lazy) {
    std::printf("lazy: %s, %.0f%% here\n", text(image, "name").c_str(),
                image.value("present_share", 0.0) * 100);
  }
  for (const json& decline : ordinary) {
    std::printf("ordinary: layer %s of %s: %s\n", short_digest(text(decline, "layer")).c_str(),
                text(decline, "image").c_str(), text(decline, "why").c_str());
  }
  if (lazy.empty() && ordinary.empty()) {
    std::printf(
        "%s: no container or mount uses it now, and no layer of it was declined since pageind "
        "started.\nIf a container runs from it, another image with the same layers brought them: "
        "containerd shares snapshots.\n",
        flags.first.empty() ? "any image" : flags.first.c_str());
  }
  return kOk;
}

int run_post(const Flags& flags, const std::string& path, const json& body) {
  auto answer = control::call_post(flags.socket, path,
                                   body.dump(-1, ' ', false, json::error_handler_t::replace));
  if (!answer.ok()) return fail(answer.error());
  return kOk;
}

int run_gc(const Flags& flags, const std::optional<uint64_t>& max_bytes) {
  json body = json::object();
  if (max_bytes) body["max_bytes"] = *max_bytes;
  auto answer = control::call_post(flags.socket, "/v1/gc", body.dump());
  if (!answer.ok()) return fail(answer.error());
  const json result = json::parse(*answer, nullptr, /*allow_exceptions=*/false);
  if (flags.json) {
    std::printf("%s\n", result.dump(2).c_str());
    return kOk;
  }
  std::printf("%llu layers removed, %llu evicted (%s); the store has %s\n",
              static_cast<unsigned long long>(number(result, "removed_layers")),
              static_cast<unsigned long long>(number(result, "evicted_layers")),
              human_bytes(number(result, "evicted_bytes")).c_str(),
              human_bytes(number(result, "bytes")).c_str());
  return kOk;
}

std::string absolute(const std::string& dir) {
  std::error_code ignored;
  std::string path = std::filesystem::absolute(dir, ignored).lexically_normal();
  if (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

std::shared_ptr<Flags> add_flags(CLI::App* command) {
  auto flags = std::make_shared<Flags>();
  command->add_option("--socket", flags->socket, "pageind's control socket")->capture_default_str();
  return flags;
}

}  // namespace

std::string daemon_location(const std::string& location) {
  for (const std::string prefix : {"oci:", "oci-archive:", "docker-archive:"}) {
    if (location.starts_with(prefix)) return prefix + absolute(location.substr(prefix.size()));
  }
  return location;
}

void add_node_commands(CLI::App& app, Run* run) {
  CLI::App* mount = app.add_subcommand(
      "mount", "Mount an accelerated image read-only at a directory, lazily, without containerd");
  auto mount_flags = add_flags(mount);
  mount->footer(kLocationHelp);
  mount->add_option("LOCATION", mount_flags->first, "The accelerated image")->required();
  mount->add_option("DIR", mount_flags->second, "An existing directory, over which it is mounted")
      ->required();
  mount->callback([=] {
    *run = [=] {
      return run_post(
          *mount_flags, "/v1/mount",
          {{"image", daemon_location(mount_flags->first)}, {"dir", absolute(mount_flags->second)}});
    };
  });

  CLI::App* umount = app.add_subcommand("umount", "Undo pagein mount");
  auto umount_flags = add_flags(umount);
  umount->add_option("DIR", umount_flags->first, "The directory that the image was mounted at")
      ->required();
  umount->callback([=] {
    *run = [=] {
      return run_post(*umount_flags, "/v1/umount", {{"dir", absolute(umount_flags->first)}});
    };
  });

  CLI::App* status =
      app.add_subcommand("status", "Images, mounts and loading progress on this node");
  auto status_flags = add_flags(status);
  status->add_flag("--json", status_flags->json, "Print JSON");
  status->callback([=] { *run = [=] { return run_status(*status_flags); }; });

  CLI::App* why =
      app.add_subcommand("why", "Say whether an image is lazy on this node, and why not");
  auto why_flags = add_flags(why);
  why->add_option("IMAGE", why_flags->first, "The image's name, or a part of it (default: all)");
  why->add_flag("--json", why_flags->json, "Print JSON");
  why->callback([=] { *run = [=] { return run_why(*why_flags); }; });

  CLI::App* gc = app.add_subcommand(
      "gc", "Remove layers whose images are gone, evict what no container needs now");
  auto gc_flags = add_flags(gc);
  auto max_bytes = std::make_shared<std::optional<uint64_t>>();
  gc->add_option_function<uint64_t>(
        "--max-bytes", [=](const uint64_t& bytes) { *max_bytes = bytes; },
        "Evict until the store has at most this, for instance 20GB (default: the daemon's limit)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true));
  gc->add_flag("--json", gc_flags->json, "Print JSON");
  gc->callback([=] { *run = [=] { return run_gc(*gc_flags, *max_bytes); }; });
}

}  // namespace pagein::cli
