#include "node/layer_device.h"

#include <fcntl.h>

#include "fetch/fetch_fixture.h"

namespace pagein::node {
namespace {

using namespace fetch::testing;
using index::testing::make_test_layer;
using index::testing::sample_tar;

// Takes one answer. Thread-safe.
class Answered : public mount::ReadSink {
 public:
  void finish_data(uint64_t, uint32_t, std::span<const ByteView> pieces) override {
    Bytes all;
    for (const ByteView& piece : pieces) all.insert(all.end(), piece.begin(), piece.end());
    set(0, std::move(all));
  }
  void finish_file(uint64_t, uint32_t length, int fd, uint64_t offset) override {
    Bytes bytes(length);
    const int error = pread_full(fd, bytes, offset).ok() ? 0 : EIO;
    set(error, std::move(bytes));
  }
  void finish_error(uint64_t, uint32_t, int error) override { set(error, {}); }

  bool answered() const {
    MutexLock lock(mutex_);
    return answers_ > 0;
  }
  // The errno, 0 for bytes.
  int wait(Bytes* bytes = nullptr) const {
    MutexLock lock(mutex_);
    while (answers_ == 0) wake_.wait(mutex_);
    if (bytes != nullptr) *bytes = bytes_;
    EXPECT_EQ(answers_, 1);
    return error_;
  }

 private:
  void set(int error, Bytes bytes) {
    MutexLock lock(mutex_);
    ++answers_;
    error_ = error;
    bytes_ = std::move(bytes);
    wake_.notify_all();
  }
  mutable Mutex mutex_;
  mutable CondVar wake_;
  int answers_ GUARDED_BY(mutex_) = 0;
  int error_ GUARDED_BY(mutex_) = 0;
  Bytes bytes_ GUARDED_BY(mutex_);
};

class LayerDeviceTest : public FetchTest {
 protected:
  void SetUp() override {
    open(make_test_layer(sample_tar()));
    device_ = make_layer_device(*context_, pager_, "r.example/app");
  }
  std::shared_ptr<Answered> read(uint64_t offset, uint32_t length) {
    auto sink = std::make_shared<Answered>();
    device_->read(offset, mount::ReadReply(sink, 1, length));
    return sink;
  }
  Bytes expected(uint64_t offset, uint32_t length) const {
    return {data_.begin() + static_cast<ptrdiff_t>(offset),
            data_.begin() + static_cast<ptrdiff_t>(offset + length)};
  }

  std::shared_ptr<mount::DeviceFile> device_;
};

TEST_F(LayerDeviceTest, AnswersAtOnceOrWhenItHasCome) {
  EXPECT_EQ(device_->size(), data_.size());
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  const auto waiting = read(8192, 65536);
  EXPECT_FALSE(waiting->answered());
  EXPECT_TRUE(context_->demand_busy());
  source_->set_script(nullptr);
  source_->release();
  Bytes bytes;
  EXPECT_EQ(waiting->wait(&bytes), 0);
  EXPECT_EQ(bytes, expected(8192, 65536));
  const auto hit = read(8192, 65536);
  EXPECT_TRUE(hit->answered());
  EXPECT_EQ(hit->wait(&bytes), 0);
  EXPECT_EQ(bytes, expected(8192, 65536));
}

TEST_F(LayerDeviceTest, AnErrorIsEio) {
  source_->set_script([](size_t, const auto&) {
    return Answer{.status = Error(Code::unavailable, "down"), .bytes = 0};
  });
  EXPECT_EQ(read(0, 4096)->wait(), EIO);
  EXPECT_EQ(source_->reads().size(), 1u) << "retries are the source's";
  EXPECT_EQ(counters().errors, 1u);
  source_->set_script(nullptr);
  EXPECT_EQ(read(0, 4096)->wait(), 0);
}

TEST_F(LayerDeviceTest, AQuarantinedLayerIsEio) {
  ASSERT_EQ(read(0, 4096)->wait(), 0);
  must(layer_->quarantine("it lied"));
  EXPECT_EQ(read(0, 4096)->wait(), EIO) << "also what is there";
}

TEST_F(LayerDeviceTest, AFlightThatWasCalledOffIsStartedAgain) {
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  const auto waiting = read(0, 4096);
  source_->set_script(nullptr);
  pager_->cancel_all();
  Bytes bytes;
  EXPECT_EQ(waiting->wait(&bytes), 0);
  EXPECT_EQ(bytes, expected(0, 4096));
  EXPECT_EQ(counters().errors, 0u);
}

TEST_F(LayerDeviceTest, BytesThatAreGoneAgainAreFetchedAgain) {
  // The claim is taken back between the flight and the answer.
  std::atomic<bool> once{true};
  source_->set_script([&](size_t, const auto&) { return Answer{.hold = true}; });
  Outcome first;
  pager_->want(0, 4096, net::Priority::demand, [&, done = first.completion()](Status status) {
    if (once.exchange(false)) layer_->drop_span(0);
    done(std::move(status));
  });
  const auto waiting = read(0, 4096);
  source_->set_script(nullptr);
  source_->release();
  Bytes bytes;
  EXPECT_EQ(waiting->wait(&bytes), 0);
  EXPECT_EQ(bytes, expected(0, 4096));
}

TEST_F(LayerDeviceTest, AStopLeavesWaitingReadsToASuccessor) {
  source_->set_script([](size_t, const auto&) { return Answer{.hold = true}; });
  const auto waiting = read(0, 4096);
  context_->stop();
  EXPECT_FALSE(waiting->answered());
  const auto late = read(0, 4096);
  EXPECT_FALSE(late->answered());
  EXPECT_EQ(counters().errors, 0u);
}

}  // namespace
}  // namespace pagein::node
