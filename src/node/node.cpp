// Start and stop of the node; serving layers is in node_layers.cpp, images
// mounted by hand in node_manual.cpp.
#include "node/node.h"

#include "base/guard.h"
#include "base/log.h"
#include "registry/credential_sources.h"

namespace pagein::node {

Result<std::unique_ptr<Node>> Node::start(const Config& config, std::vector<mount::StoredFd> fds,
                                          NodeParts parts) {
  std::unique_ptr<Node> node(new Node(config, std::move(parts)));
  RETURN_IF_ERROR(node->open(std::move(fds)));
  return node;
}

Node::~Node() { stop(); }

Status Node::open(std::vector<mount::StoredFd> fds) {
  RETURN_IF_ERROR(make_dirs(config_.root, 0711));
  ASSIGN_OR_RETURN(store_, store::LayerStore::open(config_.root));
  RETURN_IF_ERROR(open_registry());
  fetch::ContextOptions context_options;
  context_options.deadline = config_.fetch.deadline;
  context_ = std::make_unique<fetch::Context>(context_options);
  ASSIGN_OR_RETURN(layers_, Layers::open(*context_, *store_, session_, config_.root));
  fetch::BackgroundOptions background_options;
  background_options.max_flights = config_.fetch.background_flights;
  const auto run_after = [client = session_->client_ptr()](std::chrono::milliseconds delay,
                                                           std::function<void()> task) {
    client->run_after(delay, std::move(task));
  };
  startup_packs_ =
      std::make_unique<StartupPacks>(*context_, run_after, config_.fetch.prefetch_flights);
  background_ = std::make_unique<fetch::Background>(
      *context_, run_after, background_options,
      [this](const std::shared_ptr<fetch::LayerPager>& pager) { on_settled(pager); });
  RETURN_IF_ERROR(open_mounts(std::move(fds)));
  restore_manual();
  EvictorOptions eviction;
  eviction.max_bytes = config_.store.max_bytes;
  eviction.max_percent = config_.store.max_percent;
  eviction.let_go = [this] {
    forget_served();
    mounts_->drop_ended();
  };
  evictor_ = std::make_unique<Evictor>(*store_, config_.root, std::move(eviction));
  syncer_ = std::thread([this] { guard("store-sync", [this] { sync_loop(); }); });
  cleaner_ = std::thread([this] { guard("clean-up", [this] { clean_up_loop(); }); });
  return {};
}

Status Node::open_registry() {
  net::ClientOptions client_options;
  client_options.max_connections_per_origin = config_.fetch.connections_per_host;
  client_options.max_background_per_origin = config_.fetch.background_flights;
  client_options.background_yields = true;
  registry::SessionOptions options;
  ASSIGN_OR_RETURN(options.client, net::Client::create(client_options));
  options.client->set_class_bandwidth(net::Priority::background,
                                      config_.fetch.background_bytes_per_second);
  options.plain_http = config_.registry.plain_http;
  options.credentials =
      registry::make_credentials({.handed_over = handed_over_,
                                  .docker_config = config_.registry.docker_config,
                                  .files = config_.registry.credential_files,
                                  .plugin_config = config_.registry.credential_provider_config,
                                  .plugin_bin_dir = config_.registry.credential_provider_bin_dir});
  options.hosts_dir = config_.registry.hosts_dir;
  if (!config_.registry.ca_file.empty()) {
    auto tls = std::make_shared<net::TlsOptions>();
    tls->ca_file = config_.registry.ca_file;
    options.tls = std::move(tls);
  }
  ASSIGN_OR_RETURN(session_, registry::Session::create(std::move(options)));
  return {};
}

Status Node::open_mounts(std::vector<mount::StoredFd> fds) {
  mount::FuseServer::Options server_options;
  server_options.threads = config_.mount.threads;
  ASSIGN_OR_RETURN(fuse_server_, mount::FuseServer::start(server_options));
  engine_ = parts_.make_engine
                ? parts_.make_engine(*fuse_server_)
                : std::make_unique<mount::EngineSet>(*fuse_server_, config_.mount.engine);
  const std::filesystem::path scratch = config_.root / "probe";
  RETURN_IF_ERROR(make_dirs(scratch, 0700));
  probe_ = engine_->probe(scratch);
  for (const std::string& finding : probe_.findings) {
    log::info("mount engine", {{"engine", engine_->name()}, {"finding", finding}});
  }
  if (!probe_.usable) {
    log::error(
        "no mount engine works here, or not the one that the configuration names: every "
        "image is loaded the ordinary way",
        {{"engine", engine_->name()}});
  }
  ImageMountsOptions options;
  options.root = config_.root;
  options.caching =
      config_.mount.buffered ? mount::DeviceCaching::buffered : mount::DeviceCaching::direct;
  options.load_rest = [this](const std::shared_ptr<fetch::LayerPager>& pager) { load_rest(pager); };
  mounts_ =
      std::make_unique<ImageMounts>(*context_, *layers_, *engine_, fd_store_, std::move(options));
  RETURN_IF_ERROR(mounts_->restore(std::move(fds)));
  const auto restored = mounts_->list();
  MutexLock lock(mutex_);
  for (const auto& chain : restored) {
    for (const MountRecord& record : chain.record.mounts) {
      for (const std::string& holder : record.holders) {
        if (holder.starts_with(kSnapshotHolder)) unclaimed_.insert(holder);
      }
    }
  }
  return {};
}

void Node::load_rest(const std::shared_ptr<fetch::LayerPager>& pager) {
  if (config_.fetch.background) background_->add(pager);
}

void Node::on_settled(const std::shared_ptr<fetch::LayerPager>& pager) {
  const store::Layer& layer = pager->layer();
  if (layer.quarantined()) return;  // logged where it was found
  log::info("layer is complete",
            {{"layer", layer.index()->layer_digest.str()}, {"bytes", layer.index()->tar_size}});
}

void Node::sync_loop() {
  for (;;) {
    store_->wait_for_sync(parts_.interval);
    {
      MutexLock lock(mutex_);
      if (stopping_) return;
    }
    if (Status status = store_->sync_all(); !status.ok()) {
      log::warn("the store cannot be synced", {{"why", status.error().message}});
    }
  }
}

// True once the daemon stops.
bool Node::wait_for_stop(std::chrono::milliseconds timeout) {
  const auto until = std::chrono::steady_clock::now() + timeout;
  MutexLock lock(mutex_);
  while (!stopping_) {
    if (stop_wake_.wait_until(mutex_, until) == std::cv_status::timeout) break;
  }
  return stopping_;
}

// Not with the syncs: these wait for images that are being mounted.
void Node::clean_up_loop() {
  while (!wait_for_stop(parts_.interval)) {
    end_old_recordings();
    mounts_->drop_ended();
    static_cast<void>(retry_removals());
  }
}

void Node::stop() {
  {
    MutexLock lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
  }
  stop_wake_.notify_all();
  if (store_) store_->stop_waiting();
  if (evictor_) evictor_->stop();
  for (std::thread* thread : {&syncer_, &cleaner_, &restorer_}) {
    if (thread->joinable()) thread->join();
  }
  if (background_) background_->pause();
  if (startup_packs_) startup_packs_->stop();
  // Serving threads end first: nothing new is asked for. Requests that are
  // pending stay with the kernel for a successor.
  mounts_.reset();
  fuse_server_.reset();
  if (context_) context_->stop();
  if (store_) {
    if (Status status = store_->close_cleanly(); !status.ok()) {
      log::warn("the store was not closed cleanly", {{"why", status.error().message}});
    }
  }
}

}  // namespace pagein::node
