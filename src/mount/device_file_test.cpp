#include "mount/device_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <cerrno>

namespace pagein::mount {
namespace {

class RecordingSink : public ReadSink {
 public:
  void finish_data(uint64_t, uint32_t, std::span<const ByteView> pieces) override {
    ++answers;
    for (const ByteView& piece : pieces) data.insert(data.end(), piece.begin(), piece.end());
  }
  void finish_file(uint64_t, uint32_t, int, uint64_t) override { ++answers; }
  void finish_error(uint64_t, uint32_t, int e) override {
    ++answers;
    error = e;
  }
  int answers = 0;
  int error = 0;
  Bytes data;
};

TEST(ReadReply, AnswersOnce) {  // R1
  auto sink = std::make_shared<RecordingSink>();
  {
    ReadReply reply(sink, 1, 4);
    EXPECT_EQ(reply.length(), 4u);
    reply.data(as_bytes("abcd"));
    EXPECT_TRUE(reply.answered());
    reply.data(as_bytes("efgh"));
    reply.error(EIO);
    reply.file(0, 0);
  }
  EXPECT_EQ(sink->answers, 1);
  EXPECT_EQ(as_text(sink->data), "abcd");
}

TEST(ReadReply, UnansweredIsEio) {  // R1
  auto sink = std::make_shared<RecordingSink>();
  { ReadReply reply(sink, 1, 4); }
  EXPECT_EQ(sink->error, EIO);
  {
    ReadReply first(sink, 2, 4);
    ReadReply second(sink, 3, 4);
    first = std::move(second);  // the first one's read must not be lost
    EXPECT_EQ(sink->answers, 2);
  }
  EXPECT_EQ(sink->answers, 3);
}

TEST(ReadReply, LeftToASuccessorIsNotAnswered) {
  auto sink = std::make_shared<RecordingSink>();
  {
    ReadReply reply(sink, 1, 4);
    reply.leave();
    reply.error(EIO);
  }
  EXPECT_EQ(sink->answers, 0);
}

TEST(ReadReply, AnotherLengthIsEio) {  // R2
  for (const char* bytes : {"", "abc", "abcde"}) {
    auto sink = std::make_shared<RecordingSink>();
    ReadReply(sink, 1, 4).data(as_bytes(bytes));
    EXPECT_EQ(sink->error, EIO);
    EXPECT_TRUE(sink->data.empty());
  }
}

TEST(ReadReply, JoinsPieces) {
  auto sink = std::make_shared<RecordingSink>();
  const ByteView pieces[] = {as_bytes("ab"), as_bytes(""), as_bytes("cd")};
  ReadReply(sink, 1, 4).pieces(pieces);
  EXPECT_EQ(as_text(sink->data), "abcd");
}

TEST(ReadReply, OddErrorsAreEio) {
  for (const int error : {0, -5, 512, 100'000}) {
    auto sink = std::make_shared<RecordingSink>();
    ReadReply(sink, 1, 4).error(error);
    EXPECT_EQ(sink->error, EIO);
  }
}

}  // namespace
}  // namespace pagein::mount
