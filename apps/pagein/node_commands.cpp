// Commands that talk to pageind: mount, umount, status, why.
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

int run_status(const Flags& flags) {
  auto status = get(flags, "/v1/status");
  if (!status.ok()) return fail(status.error());
  if (flags.json) {
    std::printf("%s\n", status->dump(2).c_str());
    return kOk;
  }
  const json store = status->value("store", json::object());
  const json fetched = status->value("fetched_bytes", json::object());
  std::printf("pageind %s: store %s in %llu layers; fetched %s on demand, %s in the background\n",
              text(*status, "version").c_str(), human_bytes(number(store, "bytes")).c_str(),
              static_cast<unsigned long long>(number(store, "layers")),
              human_bytes(number(fetched, "demand")).c_str(),
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
        "started\n",
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
      // The daemon may run in another folder.
      std::string location = mount_flags->first;
      for (const std::string prefix : {"oci:", "oci-archive:", "docker-archive:"}) {
        if (!location.starts_with(prefix)) continue;
        location = prefix + absolute(location.substr(prefix.size()));
        break;
      }
      return run_post(*mount_flags, "/v1/mount",
                      {{"image", location}, {"dir", absolute(mount_flags->second)}});
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
}

}  // namespace pagein::cli
