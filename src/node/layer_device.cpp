#include "node/layer_device.h"

#include <cerrno>

#include "base/log.h"

namespace pagein::node {
namespace {

// What was not fetched after all is asked for again: flights are called off for
// others' reasons, and bytes that found no room on the disk do not stay long.
constexpr unsigned kAttempts = 4;

// One read that waits for its pages; holds nothing of the serving thread.
class PendingRead : public std::enable_shared_from_this<PendingRead> {
 public:
  PendingRead(fetch::Context& context, std::shared_ptr<fetch::LayerPager> pager, std::string image,
              uint64_t offset, mount::ReadReply reply)
      : context_(context),
        pager_(std::move(pager)),
        image_(std::move(image)),
        offset_(offset),
        length_(reply.length()),
        reply_(std::move(reply)) {}

  void start() {
    context_.demand_begins();
    ask();
  }

 private:
  void ask() {
    pager_->want(offset_, length_, net::Priority::demand,
                 [self = shared_from_this()](Status status) { self->on_done(std::move(status)); });
  }

  void on_done(Status status) {
    const bool fetched = status.ok();
    if (fetched) status = answer();
    if (status.ok()) return finish();
    if (context_.stopping()) {
      // A successor fetches it; an answer now would be an error for nothing.
      reply_.leave();
      return finish();
    }
    const bool again =
        fetched ? status.error().code == Code::unavailable : status.error().code == Code::cancelled;
    if (again && ++attempts_ < kAttempts) return ask();
    context_.counters().errors++;
    log::error("a container's read fails (EIO)",
               {{"image", image_},
                {"layer", pager_->layer().index()->layer_digest.str()},
                {"offset", offset_},
                {"waited_ms", waited_us() / 1000},
                {"why", status.error().message}});
    reply_.error(EIO);
    finish();
  }

  Status answer() {
    if (pager_->ready(offset_, length_)) {
      reply_.file(pager_->layer().data_fd(), offset_);
      return {};
    }
    Bytes bytes(length_);
    RETURN_IF_ERROR(pager_->copy_out(offset_, bytes));
    reply_.data(bytes);
    return {};
  }

  uint64_t waited_us() const {
    return static_cast<uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(net::Clock::now() - begin_).count());
  }
  void finish() {
    context_.demand_ends();
    context_.counters().wait_us += waited_us();
  }

  fetch::Context& context_;
  const std::shared_ptr<fetch::LayerPager> pager_;
  const std::string image_;
  const uint64_t offset_;
  const uint32_t length_;
  mount::ReadReply reply_;
  const net::Clock::time_point begin_ = net::Clock::now();
  unsigned attempts_ = 0;
};

class LayerDevice : public mount::DeviceFile {
 public:
  LayerDevice(fetch::Context& context, std::shared_ptr<fetch::LayerPager> pager, std::string image,
              std::shared_ptr<ReadRecorder> recorder)
      : context_(context),
        pager_(std::move(pager)),
        image_(std::move(image)),
        recorder_(std::move(recorder)) {}

  uint64_t size() const override { return pager_->layer().data_size(); }

  void read(uint64_t offset, mount::ReadReply reply) override {
    if (recorder_ != nullptr) recorder_->note(pager_->layer(), offset, reply.length());
    if (pager_->layer().quarantined()) {
      reply.error(EIO);
      return;
    }
    if (pager_->ready(offset, reply.length())) {
      pager_->count_startup_hit(offset, reply.length());
      reply.file(pager_->layer().data_fd(), offset);
      return;
    }
    std::make_shared<PendingRead>(context_, pager_, image_, offset, std::move(reply))->start();
  }

 private:
  fetch::Context& context_;
  const std::shared_ptr<fetch::LayerPager> pager_;
  const std::string image_;
  const std::shared_ptr<ReadRecorder> recorder_;
};

}  // namespace

std::shared_ptr<mount::DeviceFile> make_layer_device(fetch::Context& context,
                                                     std::shared_ptr<fetch::LayerPager> pager,
                                                     std::string image,
                                                     std::shared_ptr<ReadRecorder> recorder) {
  return std::make_shared<LayerDevice>(context, std::move(pager), std::move(image),
                                       std::move(recorder));
}

}  // namespace pagein::node
