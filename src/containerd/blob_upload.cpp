#include "containerd/blob_upload.h"

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "containerd/labels.h"

namespace pagein::containerd {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::minutes kPatience{10};
constexpr std::chrono::milliseconds kPoll{300};

// False: the stop came first.
bool pause(const std::stop_token& stop) {
  std::mutex mutex;
  std::condition_variable_any never;
  std::unique_lock lock(mutex);
  never.wait_for(lock, stop, kPoll, [] { return false; });
  return !stop.stop_requested();
}

Status upload(Client& client, const BlobUpload& upload) {
  const UploadRequest request{upload_ref(upload.blob), upload.blob.digest, upload.blob.size,
                              upload.labels, upload.on_bytes};
  const Clock::time_point deadline = Clock::now() + kPatience;
  for (;;) {
    const Result<Uploaded> uploaded = client.upload(request, upload.open);
    if (!uploaded.ok()) {
      // Best effort; also not there if nothing was written.
      (void)client.with_stop({})->abort_upload(request.ref);
      return uploaded.error();
    }
    if (*uploaded != Uploaded::by_another) return {};
    if (Clock::now() > deadline) {
      return Error(Code::timeout, "another client has been uploading " + upload.blob.digest.str() +
                                      " to containerd for ten minutes; try again when it is done");
    }
    if (!pause(client.stop())) return Error(Code::cancelled, "the pull was stopped");
  }
}

}  // namespace

Status upload_blob(Client& client, const PullPlan& plan, const BlobUpload& blob) {
  RETURN_IF_ERROR(upload(client, blob));
  // Also for a new one: where another namespace had the blob, containerd
  // answers that it exists and takes no labels with it.
  Labels labels = blob.labels;
  if (!plan.source_host.empty()) {
    ASSIGN_OR_RETURN(const ContentInfo info, client.content_info(blob.blob.digest));
    const std::string key = source_key(plan.source_host);
    const auto old = info.labels.find(key);
    const std::string value = add_source(
        key, old == info.labels.end() ? std::string_view() : old->second, plan.source_repository);
    if (!value.empty()) labels[key] = value;
  }
  if (labels.empty()) return {};
  return client.label_content(blob.blob.digest, labels);
}

}  // namespace pagein::containerd
