#include "containerd/layer_fetcher.h"

#include <algorithm>

#include "base/guard.h"
#include "containerd/blob_upload.h"
#include "registry/blob_reader.h"

namespace pagein::containerd {

namespace {

// From `offset` on. containerd checks the digest of the whole, so a rest needs
// no check of its own.
Result<std::unique_ptr<ByteStream>> open_at(registry::ImageSource& source,
                                            const oci::Descriptor& blob, uint64_t offset) {
  if (offset == 0) return source.open_blob(blob);
  return std::make_unique<registry::BlobReader>(source.blobs(), blob.digest, blob.size, offset);
}

}  // namespace

LayerFetcher::LayerFetcher(const Client& client, const PullPlan& plan,
                           registry::ImageSource& source, FetcherOptions options)
    : client_(client.with_stop(stop_.get_token())),
      plan_(plan),
      source_(source),
      options_(std::move(options)),
      layers_(plan.layers.size()),
      on_stop_(client.stop(), OnStop{*this}) {}

LayerFetcher::~LayerFetcher() {
  cancel();
  for (std::thread& thread : threads_) thread.join();
}

void LayerFetcher::cancel() {
  stop_.request_stop();
  MutexLock lock(mutex_);
  changed_.notify_all();
}

void LayerFetcher::start(size_t layer) {
  MutexLock lock(mutex_);
  if (layers_[layer].state != State::idle) return;
  layers_[layer].state = State::queued;
  queue_.push_back(layer);
  if (threads_.size() < std::max<size_t>(options_.parallel, 1)) {
    threads_.emplace_back([this] { guard("layer download", [this] { work(); }); });
  }
  changed_.notify_all();
}

Status LayerFetcher::wait(size_t layer) {
  MutexLock lock(mutex_);
  while (layers_[layer].state != State::done) {
    if (stop_.stop_requested()) return Error(Code::cancelled, "the pull was stopped");
    changed_.wait(mutex_);
  }
  return layers_[layer].status;
}

void LayerFetcher::work() {
  for (;;) {
    size_t layer;
    {
      MutexLock lock(mutex_);
      while (queue_.empty() && !stop_.stop_requested()) changed_.wait(mutex_);
      if (stop_.stop_requested()) return;
      layer = queue_.front();
      queue_.pop_front();
      layers_[layer].state = State::running;
    }
    Status status = fetch(layer);
    MutexLock lock(mutex_);
    layers_[layer].state = State::done;
    layers_[layer].status = std::move(status);
    changed_.notify_all();
  }
}

Status LayerFetcher::fetch(size_t layer) {
  const oci::Descriptor& blob = plan_.layers[layer];
  BlobUpload upload;
  upload.blob = blob;
  upload.open = [&](uint64_t offset) { return open_at(source_, blob, offset); };
  if (options_.on_bytes) {
    upload.on_bytes = [&](uint64_t bytes) { options_.on_bytes(layer, bytes); };
  }
  Status status = upload_blob(*client_, plan_, upload);
  if (!status.ok()) return status.error().with_context("downloading layer " + blob.digest.str());
  return status;
}

}  // namespace pagein::containerd
