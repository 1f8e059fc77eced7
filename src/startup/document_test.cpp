// The example in docs/formats/startup-pack.md is what the code writes. With
// PAGEIN_UPDATE_GOLDEN set the document gets the new one.
#include <gtest/gtest.h>
#include <zstd.h>

#include <cstdlib>

#include "startup/pack_decoder.h"
#include "startup/pack_head.h"
#include "startup/piece_encoder.h"

namespace pagein::startup {
namespace {

const std::string kDocument = std::string(PAGEIN_SOURCE_DIR) + "/docs/formats/startup-pack.md";

std::string dump(ByteView bytes) {
  std::string out;
  for (size_t at = 0; at < bytes.size(); ++at) {
    char text[16];
    if (at % 16 == 0) {
      std::snprintf(text, sizeof text, at == 0 ? "%04zx " : "\n%04zx ", at);
      out += text;
    }
    std::snprintf(text, sizeof text, " %02x", bytes[at]);
    out += text;
  }
  return out + "\n";
}

TEST(StartupPackDocument, Example) {
  if (ZSTD_versionNumber() != 10504) GTEST_SKIP() << "the example is made by zstd 1.5.4";
  PieceEncoder encoder(3);
  Bytes frames;
  const auto store = [&](std::string_view tar) {
    const ByteView frame = encoder.encode(as_bytes(tar)).value();
    frames.insert(frames.end(), frame.begin(), frame.end());
    return static_cast<uint32_t>(frame.size());
  };
  PackHead head;
  head.diff_ids = {oci::Digest::of(as_bytes("second")), oci::Digest::of(as_bytes("first"))};
  head.pieces = {{0, 2, 1, store("span two")}, {1, 0, 4, 0}, {0, 0, 1, store("nothing.")}};
  Bytes pack = write_pack_head(&head).value();
  pack.insert(pack.end(), frames.begin(), frames.end());
  ASSERT_EQ(pack.size(), head.blob_size());

  std::string document = read_file(kDocument).value();
  const std::string marker = "<!-- example: pack -->\n```\n";
  const size_t begin = document.find(marker) + marker.size();
  const size_t length = document.find("```", begin) - begin;
  if (std::getenv("PAGEIN_UPDATE_GOLDEN") != nullptr) {
    document.replace(begin, length, dump(pack));
    ASSERT_TRUE(replace_file(kDocument, as_bytes(document)).ok());
    return;
  }
  EXPECT_EQ(document.substr(begin, length), dump(pack));
}

}  // namespace
}  // namespace pagein::startup
