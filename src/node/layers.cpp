#include "node/layers.h"

#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "registry/image_store.h"

namespace pagein::node {
namespace {

constexpr size_t kMaxOrigins = 4;
constexpr uint64_t kMaxOriginsFile = 64 << 10;

}  // namespace

std::string format_origins(const std::vector<OriginRecord>& origins) {
  nlohmann::json list = nlohmann::json::array();
  for (const OriginRecord& origin : origins) {
    list.push_back({{"location", origin.location},
                    {"index", origin.index.str()},
                    {"index_size", origin.index_size}});
  }
  return nlohmann::json{{"version", 1}, {"origins", std::move(list)}}.dump(
             2, ' ', false, nlohmann::json::error_handler_t::replace) +
         "\n";
}

Result<std::vector<OriginRecord>> parse_origins(std::string_view text) {
  const auto corrupt = [](std::string_view why) {
    return Error(Code::corrupt_input, "origins of a layer: " + std::string(why));
  };
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("version") || json["version"] != 1) {
    return corrupt("unknown version");
  }
  const auto list = json.find("origins");
  if (list == json.end() || !list->is_array() || list->size() > kMaxOrigins) {
    return corrupt("no list of origins");
  }
  std::vector<OriginRecord> origins;
  for (const nlohmann::json& item : *list) {
    if (!item.is_object() || !item.contains("location") || !item["location"].is_string() ||
        !item.contains("index") || !item["index"].is_string() || !item.contains("index_size") ||
        !item["index_size"].is_number_unsigned()) {
      return corrupt("a field is missing");
    }
    OriginRecord origin;
    origin.location = item["location"].get<std::string>();
    ASSIGN_OR_RETURN(origin.index, oci::Digest::parse(item["index"].get<std::string>()));
    origin.index_size = item["index_size"].get<uint64_t>();
    origins.push_back(std::move(origin));
  }
  return origins;
}

Layers::Layers(fetch::Context& context, store::LayerStore& store,
               std::shared_ptr<registry::Session> session, std::filesystem::path origins)
    : context_(context),
      store_(store),
      session_(std::move(session)),
      origins_dir_(std::move(origins)) {}

Result<std::unique_ptr<Layers>> Layers::open(fetch::Context& context, store::LayerStore& store,
                                             std::shared_ptr<registry::Session> session,
                                             const std::filesystem::path& root) {
  RETURN_IF_ERROR(make_dirs(root / "origins", 0700));
  return std::unique_ptr<Layers>(new Layers(context, store, std::move(session), root / "origins"));
}

std::filesystem::path Layers::origins_file(const std::string& id) const {
  return origins_dir_ / (id + ".json");
}

std::vector<fetch::LayerOrigin> Layers::open_origins(
    const std::vector<OriginRecord>& records) const {
  std::vector<fetch::LayerOrigin> origins;
  for (const OriginRecord& record : records) {
    auto location = registry::parse_location(record.location);
    if (!location.ok()) continue;
    auto source = registry::open_source(*location, session_);
    if (!source.ok()) {
      log::warn("a layer's origin cannot be used",
                {{"location", record.location}, {"why", source.error().message}});
      continue;
    }
    fetch::LayerOrigin origin;
    origin.source = (*source)->blobs();
    origin.index_blob = record.index;
    origin.index_blob_size = record.index_size;
    origin.name = record.location;
    origins.push_back(std::move(origin));
  }
  return origins;
}

Result<std::shared_ptr<fetch::LayerPager>> Layers::attach(std::shared_ptr<store::Layer> layer,
                                                          const OriginRecord* origin) {
  MutexLock lock(mutex_);
  const std::string id = layer->id();
  const std::filesystem::path file = origins_file(id);
  std::vector<OriginRecord> records;
  if (const auto text = read_file(file, kMaxOriginsFile); text.ok()) {
    if (auto parsed = parse_origins(*text); parsed.ok()) {
      records = *std::move(parsed);
    } else {
      log::warn("a file of origins is damaged and is written anew",
                {{"layer", id}, {"why", parsed.error().message}});
    }
  }
  bool changed = false;
  if (origin != nullptr && (records.empty() || records.front() != *origin)) {
    std::erase(records, *origin);
    records.insert(records.begin(), *origin);
    if (records.size() > kMaxOrigins) records.resize(kMaxOrigins);
    const std::string text = format_origins(records);
    RETURN_IF_ERROR(replace_file(file, as_bytes(text), 0600));
    changed = true;
  }
  std::shared_ptr<fetch::LayerPager> pager = pagers_[id].lock();
  if (pager == nullptr) {
    pager = fetch::LayerPager::make(context_, std::move(layer), open_origins(records));
    pagers_[id] = pager;
  } else if (changed) {
    pager->set_origins(open_origins(records));
  }
  return pager;
}

Result<std::shared_ptr<fetch::LayerPager>> Layers::add(ByteView head, const OriginRecord& origin) {
  ASSIGN_OR_RETURN(std::shared_ptr<store::Layer> layer, store_.create(head));
  if (Status fits = fetch::check_span_sizes(*layer->index()); !fits.ok()) {
    const std::string id = layer->id();
    layer.reset();
    static_cast<void>(store_.remove(id));
    return fits.error();
  }
  return attach(std::move(layer), &origin);
}

Result<std::shared_ptr<fetch::LayerPager>> Layers::add_origin(const std::string& id,
                                                              const OriginRecord& origin) {
  ASSIGN_OR_RETURN(std::shared_ptr<store::Layer> layer, store_.find(id));
  return attach(std::move(layer), &origin);
}

Result<std::shared_ptr<fetch::LayerPager>> Layers::find(const std::string& id) {
  {
    MutexLock lock(mutex_);
    if (auto it = pagers_.find(id); it != pagers_.end()) {
      if (auto pager = it->second.lock()) return pager;
    }
  }
  ASSIGN_OR_RETURN(std::shared_ptr<store::Layer> layer, store_.find(id));
  return attach(std::move(layer), nullptr);
}

Status Layers::remove(const std::string& id) {
  {
    MutexLock lock(mutex_);
    if (auto it = pagers_.find(id); it != pagers_.end()) {
      if (!it->second.expired()) {
        return Error(Code::failed_precondition, "layer " + id + " is in use");
      }
      pagers_.erase(it);
    }
  }
  RETURN_IF_ERROR(store_.remove(id));
  ::unlink(origins_file(id).c_str());
  return {};
}

std::vector<std::shared_ptr<fetch::LayerPager>> Layers::active() const {
  std::vector<std::shared_ptr<fetch::LayerPager>> pagers;
  MutexLock lock(mutex_);
  for (const auto& [id, weak] : pagers_) {
    if (auto pager = weak.lock()) pagers.push_back(std::move(pager));
  }
  return pagers;
}

}  // namespace pagein::node
