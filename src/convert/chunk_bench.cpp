// What chunk sizes and levels cost on layers of yours (docs/full-mode.md):
//
//   convert_chunk_bench [--every N] [--kib SIZE] LAYER...
//
// Takes every N-th chunk (default 1; few chunks make sizes vary by some percent)
// of SIZE (default: a row of sizes). CPU time of one thread. Sizes are in
// percent of the layer as it is, of the chunks taken; reading is a 4 KiB read at
// a random place: its chunk is fetched, decoded and hashed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <string>
#include <vector>

#include "base/sha256.h"
#include "codec/chunk_encoder.h"
#include "codec/span_decoder.h"
#include "codec/span_indexer.h"
#include "convert/chunk_cutter.h"
#include "tar/stream_reader.h"

namespace pagein::convert {
namespace {

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.error().message.c_str());
  std::exit(1);
}

struct Collect final : codec::OutputSink {
  Status on_output(ByteView piece) override {
    tar.insert(tar.end(), piece.begin(), piece.end());
    return {};
  }
  Bytes tar;
};

struct Cut final : tar::EntrySink {
  explicit Cut(uint64_t target) : cutter(target) {}
  Status on_entry(const tar::Entry& entry) override {
    if (entry.content_length > 0) cutter.on_content(entry.content_offset, entry.content_length);
    return {};
  }
  ChunkCutter cutter;
};

std::vector<ByteView> cut(ByteView tar, uint64_t target) {
  Cut sink(target);
  tar::StreamReader reader(sink);
  must(reader.feed(tar));
  sink.cutter.on_read(tar.size());
  std::vector<uint64_t> cuts = sink.cutter.take_cuts();
  cuts.push_back(tar.size());
  std::vector<ByteView> chunks;
  uint64_t begin = 0;
  for (const uint64_t end : cuts) {
    if (end > begin) chunks.push_back(tar.subspan(begin, end - begin));
    begin = end;
  }
  return chunks;
}

struct Layer {
  uint64_t compressed = 0;
  Bytes tar;
};

Layer load(const char* path) {
  Layer layer;
  const std::string blob = read_file(path, UINT64_MAX).value();
  layer.compressed = blob.size();
  Collect sink;
  const auto decoder = codec::make_decoder(codec::detect_encoding(as_bytes(blob)), sink);
  must(decoder->feed(as_bytes(blob)));
  layer.tar = std::move(sink.tar);
  return layer;
}

void measure(const std::vector<Layer>& layers, size_t every, uint64_t target,
             const codec::ChunkEncoderOptions& options) {
  auto encoder = codec::make_chunk_encoder(options).value();
  codec::SpanStream stream;
  Bytes encoded;
  Bytes decoded;
  double in = 0;
  double out = 0;
  double base = 0;
  double encoding = 0;
  double fetched = 0;
  double reading = 0;
  std::vector<std::pair<double, double>> reads;  // ms, weight
  for (const Layer& layer : layers) {
    const std::vector<ByteView> chunks = cut(layer.tar, target);
    for (size_t i = 0; i < chunks.size(); i += every) {
      const auto size = static_cast<double>(chunks[i].size());
      double start = cpu_seconds();
      must(encoder->encode(chunks[i], encoded));
      encoding += cpu_seconds() - start;
      decoded.resize(chunks[i].size());
      start = cpu_seconds();
      must(stream.decode({codec::chunk_kind(options.encoding), 0, {}}, encoded, decoded));
      const Sha256Bytes digest = sha256(decoded);
      const double ms = (cpu_seconds() - start) * 1e3;
      if (digest[0] == 0 && digest[1] == 0 && digest[2] == 0 && digest[3] == 0) std::puts("");
      in += size;
      out += static_cast<double>(encoded.size());
      base += size * static_cast<double>(layer.compressed) / static_cast<double>(layer.tar.size());
      fetched += size * static_cast<double>(encoded.size());
      reading += size * ms;
      reads.emplace_back(ms, size);
    }
  }
  std::sort(reads.begin(), reads.end());
  double weight = 0;
  size_t p99 = 0;
  while (p99 + 1 < reads.size() && (weight += reads[p99].second) < 0.99 * in) ++p99;
  std::printf("%4llu KiB  %-40s %6.1f%% %8.1f MB/s  read: %6.1f KiB %5.2f ms, p99 %5.2f ms\n",
              static_cast<unsigned long long>(target >> 10), encoder->settings().c_str(),
              100 * out / base, in / encoding / 1e6, fetched / in / 1024, reading / in,
              reads[p99].first);
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  size_t every = 1;
  std::vector<uint64_t> sizes = {64, 128, 256, 512, 1024};
  int first = 1;
  for (; first + 1 < argc && std::strncmp(argv[first], "--", 2) == 0; first += 2) {
    const uint64_t value = std::max(1UL, std::strtoul(argv[first + 1], nullptr, 10));
    if (std::strcmp(argv[first], "--every") == 0) every = value;
    else sizes = {value};
  }
  if (argc <= first) {
    std::fprintf(stderr, "usage: %s [--every N] [--kib SIZE] LAYER...\n", argv[0]);
    return 2;
  }
  std::vector<Layer> layers;
  for (int i = first; i < argc; ++i) layers.push_back(load(argv[i]));
  for (const uint64_t kib : sizes) {
    for (const int level : {4, 5, 6, 7}) {
      measure(layers, every, kib << 10, {.encoding = codec::Encoding::gzip, .level = level});
    }
    for (const int level : {1, 3, 4, 5, 6}) {
      measure(layers, every, kib << 10, {.encoding = codec::Encoding::zstd, .level = level});
    }
  }
  return 0;
}

}  // namespace
}  // namespace pagein::convert

int main(int argc, char** argv) { return pagein::convert::run(argc, argv); }
