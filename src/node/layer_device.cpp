#include "node/layer_device.h"

#include <cerrno>

#include "base/log.h"

namespace pagein::node {
namespace {

class LayerDevice : public mount::DeviceFile {
 public:
  LayerDevice(fetch::Context& context, std::shared_ptr<fetch::LayerPager> pager, std::string image)
      : context_(context), pager_(std::move(pager)), image_(std::move(image)) {}

  uint64_t size() const override { return pager_->layer().data_size(); }

  void read(uint64_t offset, mount::ReadReply reply) override {
    if (pager_->layer().quarantined()) {
      reply.error(EIO);
      return;
    }
    if (pager_->ready(offset, reply.length())) {
      reply.file(pager_->layer().data_fd(), offset);
      return;
    }
    // Waits for the pages; holds nothing of the serving thread.
    struct Wait {
      fetch::Context& context;
      std::shared_ptr<fetch::LayerPager> pager;
      std::string image;
      uint64_t offset;
      mount::ReadReply reply;
      net::Clock::time_point begin = net::Clock::now();
    };
    auto wait = std::make_shared<Wait>(
        Wait{context_, pager_, image_, offset, std::move(reply)});
    const uint32_t length = wait->reply.length();
    context_.demand_begins();
    pager_->want(offset, length, net::Priority::demand, [wait](Status status) {
      wait->context.demand_ends();
      const auto waited = std::chrono::duration_cast<std::chrono::microseconds>(
          net::Clock::now() - wait->begin);
      wait->context.counters().wait_us += static_cast<uint64_t>(waited.count());
      if (status.ok()) {
        if (wait->pager->ready(wait->offset, wait->reply.length())) {
          wait->reply.file(wait->pager->layer().data_fd(), wait->offset);
          return;
        }
        Bytes bytes(wait->reply.length());
        status = wait->pager->copy_out(wait->offset, bytes);
        if (status.ok()) {
          wait->reply.data(bytes);
          return;
        }
      }
      wait->context.counters().errors++;
      log::error("a container's read fails (EIO)",
                 {{"image", wait->image},
                  {"layer", wait->pager->layer().index()->layer_digest.str()},
                  {"offset", wait->offset},
                  {"waited_ms", waited.count() / 1000},
                  {"why", status.error().message}});
      wait->reply.error(EIO);
    });
  }

 private:
  fetch::Context& context_;
  const std::shared_ptr<fetch::LayerPager> pager_;
  const std::string image_;
};

}  // namespace

std::shared_ptr<mount::DeviceFile> make_layer_device(fetch::Context& context,
                                                     std::shared_ptr<fetch::LayerPager> pager,
                                                     std::string image) {
  return std::make_shared<LayerDevice>(context, std::move(pager), std::move(image));
}

}  // namespace pagein::node
