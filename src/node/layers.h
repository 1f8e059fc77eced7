// The layers that this node can serve lazily: their place in the store, their
// page-in, and where their bytes come from (kept across restarts).
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "fetch/layer_pager.h"
#include "registry/session.h"
#include "store/layer_store.h"

namespace pagein::node {

// Where a layer can be fetched: a location in registry::parse_location's
// spelling (without tag), and the blob that holds its index.
struct OriginRecord {
  std::string location;
  oci::Digest index;
  uint64_t index_size = 0;
  bool operator==(const OriginRecord&) const = default;
};

// JSON; parse is for files found at start: corrupt_input if it is not what
// format_origins() wrote.
std::string format_origins(const std::vector<OriginRecord>& origins);
Result<std::vector<OriginRecord>> parse_origins(std::string_view json);

// Thread-safe; may block on disk. `context`, `store` outlive it.
class Layers {
 public:
  static Result<std::unique_ptr<Layers>> open(fetch::Context& context, store::LayerStore& store,
                                              std::shared_ptr<registry::Session> session,
                                              const std::filesystem::path& root);

  // The layer of this verified head, and one more place to fetch it from (the
  // newest is asked first; a few are kept). unsupported: spans too long to serve.
  Result<std::shared_ptr<fetch::LayerPager>> add(ByteView head, const OriginRecord& origin);
  // The same for a layer whose head is in the store already.
  Result<std::shared_ptr<fetch::LayerPager>> add_origin(const std::string& id,
                                                        const OriginRecord& origin);
  // By its name in the store; not_found.
  Result<std::shared_ptr<fetch::LayerPager>> find(const std::string& id);
  // Gone from disk, as soon as nobody holds it: failed_precondition until then.
  Status remove(const std::string& id);

  // Those in use now.
  std::vector<std::shared_ptr<fetch::LayerPager>> active() const;
  store::LayerStore& store() const { return store_; }

 private:
  Layers(fetch::Context& context, store::LayerStore& store,
         std::shared_ptr<registry::Session> session, std::filesystem::path origins);
  Result<std::shared_ptr<fetch::LayerPager>> attach(std::shared_ptr<store::Layer> layer,
                                                    const OriginRecord* origin);
  std::vector<fetch::LayerOrigin> open_origins(const std::vector<OriginRecord>& records) const;
  std::filesystem::path origins_file(const std::string& id) const;

  fetch::Context& context_;
  store::LayerStore& store_;
  const std::shared_ptr<registry::Session> session_;
  const std::filesystem::path origins_dir_;
  mutable Mutex mutex_;  // also makes changes of an origins file one after the other
  std::map<std::string, std::weak_ptr<fetch::LayerPager>> pagers_ GUARDED_BY(mutex_);
};

}  // namespace pagein::node
