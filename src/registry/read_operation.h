// One ranged read over however many requests it takes; part of
// RegistryBlobSource.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>

#include "net/http_client.h"
#include "registry/registry_blob_source.h"

namespace pagein::registry {

// Confined to the net thread, except stop_delivery(). Invariants:
//  R1 the sink gets byte i of the range only after bytes 0..i-1, and once;
//  R2 on_done comes once, after which the sink is not touched;
//  R3 at most one request is under way.
class ReadOperation : public net::ResponseHandler,
                      public std::enable_shared_from_this<ReadOperation> {
 public:
  ReadOperation(std::shared_ptr<RegistryBlobSource> source, ReadId id, const BlobRead& read,
                std::shared_ptr<BlobSink> sink);

  void begin();
  void cancel();
  void pause();
  void resume();
  void promote();
  // From any thread: nothing is delivered after this, cancel() follows.
  void stop_delivery() { stopped_ = true; }

  void on_headers(const net::ResponseHead& head) override;
  void on_data(ByteView data) override;
  void on_done(Status status) override;

 private:
  // What follows the request under way, decided from its answer.
  enum class Next { deliver, retry, refresh, ask_registry, elsewhere, fail };
  struct Verdict {
    Next next = Next::deliver;
    std::optional<Error> error;  // what to report if it does not get better
    std::optional<std::chrono::seconds> retry_after;
    Refusal refusal;
  };

  void attempt();
  void send(const std::string& url, const std::string& authorization);
  Verdict judge(const net::ResponseHead& head);
  Verdict judge_success(const net::ResponseHead& head);
  Verdict refused(const net::ResponseHead& head);
  void act(Verdict verdict);
  // This host could not help: the next one, or after the last one what the registry's own failure
  // calls for.
  enum class Then { retry, give_up };
  void fail_over(Error why, Then then, std::optional<std::chrono::seconds> retry_after);
  void act_on_authorization(Result<std::string> header);
  void retry(Error error, std::optional<std::chrono::seconds> retry_after);
  void finish(Status status);
  Error error(Code code, std::string_view why) const;
  // "GET https://... bytes 0-99 of 1000"
  std::string doing() const;
  uint64_t position() const { return read_.offset + delivered_; }
  bool is_rest_of_blob() const { return read_.offset + read_.length == read_.blob_size; }

  std::shared_ptr<RegistryBlobSource> source_;
  const ReadId id_;
  const BlobRead read_;
  std::shared_ptr<BlobSink> sink_;
  std::atomic<bool> stopped_{false};
  bool finished_ = false;
  bool paused_ = false;
  net::Priority priority_;

  uint64_t delivered_ = 0;
  int failures_ = 0;  // in a row
  uint64_t delivered_at_failure_ = 0;
  unsigned refusals_ = 0;  // of authorization, without progress

  // Where this round of tries is. A round ends with the last host, and a new one asks anew.
  using HostPtr = RegistryBlobSource::HostPtr;
  std::vector<HostPtr> route_;
  size_t at_ = 0;
  HostPtr host_;  // asked now
  struct Failure {
    Error why;
    Then then;
    std::optional<std::chrono::seconds> retry_after;
  };
  std::optional<Failure> registry_failure_;  // of the registry itself, in this round
  std::string mirror_failures_;
  std::vector<HostPtr> delivered_by_;

  // Of the request under way.
  net::RequestId request_ = 0;
  std::string url_;        // with query
  std::string final_url_;  // after redirects; with query
  std::string authorization_;
  bool from_target_ = false;  // asked a remembered redirect target
  bool ranged_ = false;
  bool whole_stream_ = false;  // a 200 to a range
  uint64_t skip_ = 0;          // bytes of the body before the ones wanted
  uint64_t ignored_ = 0;
  std::optional<Verdict> verdict_;
};

}  // namespace pagein::registry
