// Speed of the codec on a layer of yours, beside other decoders:
//
//   codec_codec_bench LAYER.tar.gz [SPACING_KIB [RUNS]]
//   codec_codec_bench LAYER.tar.zst [SPACING_KIB [RUNS [SHARE]]]
//
// SHARE: ten-thousandths of the layer that checkpoints may take. CPU time of one thread. Prints the
// median of RUNS (default 3) runs.
#include <libdeflate.h>
#include <zlib.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <vector>

#include "base/sha256.h"
#include "codec/crc32.h"
#include "codec/member_decoder.h"
#include "codec/span_decoder.h"
#include "codec/span_indexer.h"
#include "codec/zstd_blocks.h"

namespace pagein::codec {
namespace {

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

void fail(const char* what, const Error& error) {
  std::fprintf(stderr, "%s: %s\n", what, error.message.c_str());
  std::exit(1);
}

double quantile(std::vector<double> values, double part) {
  std::sort(values.begin(), values.end());
  return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

// `run` returns how many bytes it made.
void measure(const char* name, int runs, const std::function<uint64_t()>& run) {
  std::vector<double> speeds;
  double seconds_per_gb = 0;
  for (int i = 0; i < runs; ++i) {
    const double start = cpu_seconds();
    const uint64_t bytes = run();
    const double seconds = cpu_seconds() - start;
    speeds.push_back(static_cast<double>(bytes) / seconds / 1e6);
    seconds_per_gb = 1e3 / median(speeds);
  }
  std::printf("%-34s %8.1f MB/s %8.3f s/GB\n", name, median(speeds), seconds_per_gb);
}

uint64_t inflate_only(ByteView blob) {
  auto member = std::make_unique<MemberDecoder>();
  OutputBuffer out(kWindowBytes + (128 << 10));
  BitInput in;
  in.set_piece(blob);
  member->start_member();
  uint64_t total = 0;
  for (;;) {
    auto event = member->run(in, out, out.limit_end, Inflater::Tail::loose);
    if (!event.ok()) fail("inflate", event.error());
    if (*event == MemberDecoder::Event::output_limit) out.slide(out.next - kWindowBytes);
    if (*event == MemberDecoder::Event::need_input) break;
    if (*event == MemberDecoder::Event::end) {
      if (!in.fill(8) || in.peek(8) == 0) break;
      member->start_member();
    }
  }
  total = out.next_offset();
  return total;
}

class Collect final : public IndexSink {
 public:
  Status on_output(ByteView piece) override {
    bytes += piece.size();
    if (hash != nullptr) hash->update(piece);
    return {};
  }
  Status on_checkpoint(Checkpoint checkpoint) override {
    checkpoints.push_back(std::move(checkpoint));
    return {};
  }
  Status on_payload(Bytes payload) override {
    checkpoints.back().payload = std::move(payload);
    return {};
  }
  uint64_t bytes = 0;
  Sha256* hash = nullptr;
  std::vector<Checkpoint> checkpoints;
};

IndexSummary index_layer(ByteView blob, const IndexOptions& options, Collect& sink) {
  auto indexer = make_span_indexer(detect_encoding(blob), options, sink);
  if (!indexer.ok()) fail("indexer", indexer.error());
  constexpr size_t kPiece = 64 << 10;
  for (size_t at = 0; at < blob.size(); at += kPiece) {
    auto fed = (*indexer)->feed(blob.subspan(at, std::min(kPiece, blob.size() - at)));
    if (!fed.ok()) fail("indexer", fed.error());
  }
  auto summary = (*indexer)->finish();
  if (!summary.ok()) fail("indexer", summary.error());
  return *summary;
}

// What only follows the blocks and keeps what they refer to.
uint64_t walk_only(ByteView blob) {
  ZstdWindow window;
  ZstdBlockWalker walker;
  Bytes buffer(2 * ZstdBlockWalker::kSlack + kZstdMaxBlock);
  uint64_t total = 0;
  while (blob.size() > 4) {
    blob = blob.subspan(4);
    auto frame = parse_zstd_frame_header(blob);
    if (!frame.ok()) fail("walk", frame.error());
    blob = blob.subspan(frame->bytes);
    walker.begin_frame(total, frame->window);
    window.begin_frame(total, frame->window);
    window.record(total + 1);
    for (bool last = false; !last;) {
      auto header = parse_zstd_block_header(blob);
      if (!header.ok()) fail("walk", header.error());
      last = header->last;
      const ByteView content = blob.subspan(kZstdBlockHeader, header->content_bytes());
      blob = blob.subspan(kZstdBlockHeader + content.size());
      if (header->type != ZstdBlockHeader::Type::compressed) {
        walker.skip(header->size);
        total += header->size;
        continue;
      }
      std::copy(content.begin(), content.end(), buffer.begin() + ZstdBlockWalker::kSlack);
      Status parsed =
          walker.parse(ByteView(buffer).subspan(ZstdBlockWalker::kSlack, content.size()));
      if (!parsed.ok()) fail("walk", parsed.error());
      auto yields = walker.execute(window);
      if (!yields.ok()) fail("walk", yields.error());
      total += *yields;
    }
    if (frame->checksum) blob = blob.subspan(4);
  }
  return total;
}

uint64_t libzstd_all(ByteView blob) {
  class Count final : public OutputSink {
   public:
    Status on_output(ByteView piece) override {
      total += piece.size();
      return {};
    }
    uint64_t total = 0;
  } count;
  const auto decoder = make_decoder(Encoding::zstd, count);
  if (auto fed = decoder->feed(blob); !fed.ok()) fail("libzstd", fed.error());
  return count.total;
}

uint64_t zlib_all(ByteView blob) {
  z_stream z{};
  inflateInit2(&z, 31);
  std::vector<uint8_t> out(256 << 10);
  z.next_in = const_cast<Bytef*>(blob.data());
  uint64_t left = blob.size();
  uint64_t total = 0;
  for (;;) {
    if (z.avail_in == 0) {
      z.avail_in = static_cast<uInt>(std::min<uint64_t>(left, 1 << 30));
      left -= z.avail_in;
    }
    z.next_out = out.data();
    z.avail_out = static_cast<uInt>(out.size());
    const int code = inflate(&z, Z_NO_FLUSH);
    total += out.size() - z.avail_out;
    if (code == Z_STREAM_END) {
      if (z.avail_in + left < 18 || z.next_in[0] == 0) break;
      inflateReset(&z);
    } else if (code != Z_OK) {
      break;
    }
  }
  inflateEnd(&z);
  return total;
}

// Whole buffer in, whole buffer out; first member only.
uint64_t libdeflate_all(ByteView blob, std::vector<uint8_t>& out) {
  libdeflate_decompressor* d = libdeflate_alloc_decompressor();
  size_t made = 0;
  libdeflate_gzip_decompress(d, blob.data(), blob.size(), out.data(), out.size(), &made);
  libdeflate_free_decompressor(d);
  return made;
}

void print_spans(const Collect& index, const IndexSummary& summary) {
  std::vector<double> kib;
  for (size_t i = 0; i < index.checkpoints.size(); ++i) {
    const uint64_t end = i + 1 == index.checkpoints.size()
                             ? summary.uncompressed_size
                             : index.checkpoints[i + 1].uncompressed_offset;
    kib.push_back(static_cast<double>(end - index.checkpoints[i].uncompressed_offset) / 1024);
  }
  std::printf(
      "spans of tar: mean %.0f KiB, median %.0f, 99th %.0f, longest %.0f\n",
      static_cast<double>(summary.uncompressed_size) / 1024 / static_cast<double>(kib.size()),
      median(kib), quantile(kib, 0.99), quantile(kib, 1));
}

void span_latencies(ByteView blob, const Collect& index, const IndexSummary& summary) {
  SpanStream stream;
  std::vector<uint8_t> out;
  std::vector<double> micros;
  double total = 0;
  for (size_t i = 0; i < index.checkpoints.size(); ++i) {
    const Checkpoint& from = index.checkpoints[i];
    const bool last = i + 1 == index.checkpoints.size();
    const uint64_t until =
        last ? summary.uncompressed_size : index.checkpoints[i + 1].uncompressed_offset;
    const uint64_t end =
        last ? summary.compressed_end : end_byte(index.checkpoints[i + 1].compressed_bit);
    const uint64_t begin = first_byte(from.compressed_bit);
    out.resize(until - from.uncompressed_offset);
    const double start = cpu_seconds();
    const Status decoded = stream.decode(span_start(from), blob.subspan(begin, end - begin), out);
    const double seconds = cpu_seconds() - start;
    if (!decoded.ok()) fail("span", decoded.error());
    total += seconds;
    micros.push_back(seconds * 1e6);
  }
  std::sort(micros.begin(), micros.end());
  std::printf("spans: %zu, decode mean %.0f us, p50 %.0f, p99 %.0f, max %.0f; %.1f MB/s\n",
              micros.size(), total * 1e6 / static_cast<double>(micros.size()),
              micros[micros.size() / 2], micros[micros.size() * 99 / 100], micros.back(),
              static_cast<double>(summary.uncompressed_size) / total / 1e6);
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s LAYER [SPACING_KIB [RUNS [SHARE]]]\n", argv[0]);
    return 2;
  }
  IndexOptions options;
  if (argc > 2) options.spacing = std::strtoull(argv[2], nullptr, 10) << 10;
  const int runs = argc > 3 ? std::max(0, std::atoi(argv[3])) : 3;
  if (argc > 4) options.payload_share = static_cast<uint32_t>(std::atoi(argv[4]));
  auto file = read_file(argv[1], uint64_t{8} << 30);
  if (!file.ok()) fail(argv[1], file.error());
  const ByteView blob = as_bytes(*file);

  Collect index;
  const IndexSummary summary = index_layer(blob, options, index);
  std::printf("%llu -> %llu bytes, %llu members\n",
              static_cast<unsigned long long>(summary.compressed_size),
              static_cast<unsigned long long>(summary.uncompressed_size),
              static_cast<unsigned long long>(summary.members));
  std::printf("index: %llu checkpoints, payloads %llu bytes, %.3f %% of the blob, mean %llu\n",
              static_cast<unsigned long long>(summary.checkpoints),
              static_cast<unsigned long long>(summary.payload_bytes),
              100.0 * static_cast<double>(summary.payload_bytes) /
                  static_cast<double>(summary.compressed_size),
              static_cast<unsigned long long>(summary.payload_bytes / summary.checkpoints));
  print_spans(index, summary);

  if (runs == 0) return 0;
  const bool zstd = detect_encoding(blob) == Encoding::zstd;
  if (zstd) {
    measure("libzstd", runs, [&] { return libzstd_all(blob); });
    measure("walk blocks", runs, [&] { return walk_only(blob); });
  } else {
    measure("inflate", runs, [&] { return inflate_only(blob); });
  }
  measure("index (decode, check, checkpoints)", runs, [&] {
    Collect sink;
    return index_layer(blob, options, sink).uncompressed_size;
  });
  measure("index and SHA-256 of the tar", runs, [&] {
    Collect sink;
    Sha256 hash;
    sink.hash = &hash;
    const uint64_t size = index_layer(blob, options, sink).uncompressed_size;
    hash.finish();
    return size;
  });
  span_latencies(blob, index, summary);
  if (zstd) return 0;
  measure("zlib", 1, [&] { return zlib_all(blob); });
  if (summary.members == 1) {
    std::vector<uint8_t> out(summary.uncompressed_size, 1);
    measure("libdeflate (whole buffer)", runs, [&] { return libdeflate_all(blob, out); });
  }
  return 0;
}

}  // namespace
}  // namespace pagein::codec

int main(int argc, char** argv) { return pagein::codec::run(argc, argv); }
