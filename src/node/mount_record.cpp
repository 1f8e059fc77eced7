#include "node/mount_record.h"

#include <nlohmann/json.hpp>

namespace pagein::node {
namespace {

using nlohmann::json;

constexpr int kVersion = 1;
constexpr size_t kMaxItems = 100'000;
constexpr uint64_t kMaxGeneration = UINT32_MAX;

Error corrupt(std::string_view why) {
  return Error(Code::corrupt_input, "image record: " + std::string(why));
}

json to_json(const MountRecord& mount) {
  return {{"generation", mount.generation},
          {"local", mount.local},
          {"holders", mount.holders},
          {"needs_daemon", mount.state.needs_daemon},
          {"engine", mount::engine_kind_name(mount.state.engine)},
          {"fuse",
           {{"protocol_minor", mount.state.fuse.protocol_minor},
            {"init_flags", mount.state.fuse.init_flags},
            {"connection", mount.state.fuse.connection}}}};
}

const json* member(const json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it != object.end() ? &*it : nullptr;
}

Result<std::vector<std::string>> texts(const json* list) {
  if (list == nullptr || !list->is_array() || list->size() > kMaxItems) {
    return corrupt("a list of texts is missing");
  }
  std::vector<std::string> out;
  for (const json& item : *list) {
    if (!item.is_string()) return corrupt("a list holds something else than texts");
    out.push_back(item.get<std::string>());
  }
  return out;
}

Result<uint64_t> number(const json* value, uint64_t max) {
  if (value == nullptr || !value->is_number_unsigned() || value->get<uint64_t>() > max) {
    return corrupt("a number is missing or out of range");
  }
  return value->get<uint64_t>();
}

Result<MountRecord> parse_mount(const json& value, size_t layers) {
  MountRecord mount;
  ASSIGN_OR_RETURN(mount.generation, number(member(value, "generation"), kMaxGeneration));
  const json* local = member(value, "local");
  if (local == nullptr || !local->is_array() || local->size() != layers) {
    return corrupt("\"local\" does not fit the layers");
  }
  for (const json& item : *local) {
    if (!item.is_boolean()) return corrupt("\"local\" holds something else than true and false");
    mount.local.push_back(item.get<bool>());
  }
  ASSIGN_OR_RETURN(const auto holders, texts(member(value, "holders")));
  mount.holders = {holders.begin(), holders.end()};
  const json* needs = member(value, "needs_daemon");
  if (needs == nullptr || !needs->is_boolean()) return corrupt("\"needs_daemon\" is missing");
  mount.state.needs_daemon = needs->get<bool>();
  if (const json* engine = member(value, "engine"); engine != nullptr) {  // since 0.2
    const auto kind =
        engine->is_string() ? mount::parse_engine_kind(engine->get<std::string>()) : std::nullopt;
    if (!kind) return corrupt("\"engine\" names none that is known");
    mount.state.engine = *kind;
  }
  const json* fuse = member(value, "fuse");
  if (fuse == nullptr) return corrupt("\"fuse\" is missing");
  ASSIGN_OR_RETURN(const uint64_t minor, number(member(*fuse, "protocol_minor"), UINT32_MAX));
  ASSIGN_OR_RETURN(mount.state.fuse.init_flags, number(member(*fuse, "init_flags"), UINT64_MAX));
  ASSIGN_OR_RETURN(const uint64_t connection, number(member(*fuse, "connection"), UINT32_MAX));
  mount.state.fuse.protocol_minor = static_cast<uint32_t>(minor);
  mount.state.fuse.connection = static_cast<uint32_t>(connection);
  return mount;
}

}  // namespace

std::string format_image_record(const ImageRecord& record) {
  json mounts = json::array();
  for (const MountRecord& mount : record.mounts) mounts.push_back(to_json(mount));
  const json out = {{"version", kVersion},
                    {"name", record.name},
                    {"layers", record.layers},
                    {"below", record.below},
                    {"mounts", std::move(mounts)}};
  return out.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<ImageRecord> parse_image_record(std::string_view text) {
  const json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  const json* version = member(value, "version");
  if (version == nullptr || *version != kVersion) return corrupt("unknown version");
  ImageRecord record;
  if (const json* name = member(value, "name"); name != nullptr && name->is_string()) {
    record.name = name->get<std::string>();
  }
  ASSIGN_OR_RETURN(record.layers, texts(member(value, "layers")));
  ASSIGN_OR_RETURN(record.below, texts(member(value, "below")));
  const json* mounts = member(value, "mounts");
  if (mounts == nullptr || !mounts->is_array() || mounts->size() > kMaxItems) {
    return corrupt("\"mounts\" is missing");
  }
  for (const json& item : *mounts) {
    ASSIGN_OR_RETURN(MountRecord mount, parse_mount(item, record.layers.size()));
    if (mount.generation <= (record.mounts.empty() ? 0 : record.mounts.back().generation)) {
      return corrupt("the mounts are not in order");
    }
    record.mounts.push_back(std::move(mount));
  }
  return record;
}

}  // namespace pagein::node
