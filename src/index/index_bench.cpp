// Cost of a layer's index: index_bench FILE.tar ... (as plain tar layers), or
// without arguments synthetic layers of 100,000 and 500,000 entries. Prints
// the CPU time to build and to parse, best of some runs, and bytes per entry.

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>
#include <utility>

#include "base/file.h"
#include "index/file_table_builder.h"
#include "index/layer_index_builder.h"

namespace {

using namespace pagein;         // NOLINT: a benchmark
using namespace pagein::index;  // NOLINT

constexpr int kRuns = 7;
constexpr uint64_t kSpacing = 256 << 10;

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) * 1e-6;
}

template <typename F>
double best_ms(F&& body) {
  double best = 1e9;
  for (int i = 0; i < kRuns; ++i) {
    const double start = cpu_ms();
    body();
    best = std::min(best, cpu_ms() - start);
  }
  return best;
}

// Something like npm trees: directories of 12 files, sizes and times that vary.
FileTable synthetic(size_t entries, uint64_t& tar_size) {
  FileTableBuilder builder;
  uint64_t offset = 0;
  uint64_t random = 88172645463325252;
  tar::Entry entry;
  std::string directory;
  for (size_t i = 0; i < entries - 1; ++i) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    if (i % 13 == 0) {
      directory = "usr/lib/node_modules/pkg" + std::to_string(random % 5000) + "/lib/d" +
                  std::to_string(i / 13);
      entry.type = tar::EntryType::directory;
      entry.path = directory;
      entry.mode = 0755;
      entry.size = 0;
      entry.mtime_sec = 1'600'000'000 + static_cast<int64_t>(random % 100'000'000);
    } else {
      entry.type = tar::EntryType::regular;
      entry.path = directory + "/file" + std::to_string(random % 1000) + "." + std::to_string(i);
      entry.mode = 0644;
      entry.size = random % 20'000;
    }
    offset += 512;
    entry.content_offset = offset;
    entry.content_length = entry.size;
    offset += (entry.size + 511) & ~uint64_t{511};
    if (!builder.add(entry).ok()) std::abort();
  }
  tar_size = offset + 1024;
  return builder.finish();
}

void run(const char* label, const FileTable& files, uint64_t tar_size, double build_ms) {
  LayerFacts facts;
  facts.tar_size = facts.layer_size = tar_size;
  EncodedIndex encoded;
  const double encode_ms = best_ms([&] {
    LayerIndexBuilder builder;
    for (uint64_t at = 0; at < tar_size; at += kSpacing) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(&at);
      builder.add_span(at, {codec::CheckpointKind::identity, at * 8}, {}, sha256({bytes, 8}));
    }
    encoded = builder.finish(facts, files).value();
  });
  const double parse_ms = best_ms([&] {
    if (!parse_head(encoded.head).ok()) std::abort();
  });
  const double digests = 32.0 * static_cast<double>((tar_size + kSpacing - 1) / kSpacing);
  const auto head = static_cast<double>(encoded.head.size());
  std::printf(
      "%s: %zu entries, table %.0f ms, encode %.0f ms, parse %.1f ms, head %.0f bytes, "
      "%.2f bytes per entry without digests\n",
      label, files.size(), build_ms, encode_ms, parse_ms, head,
      (head - digests) / static_cast<double>(files.size()));
}

void run_tar(const char* path) {
  const auto archive = read_file(path, 4ULL << 30);
  if (!archive.ok()) std::abort();
  FileTable files;
  const double build_ms = best_ms([&] {
    FileTableBuilder builder;
    tar::StreamReader reader(builder);
    Status status = reader.feed(as_bytes(*archive));
    if (status.ok()) status = reader.finish();
    if (!status.ok()) std::printf("%s: %s\n", path, status.error().message.c_str());
    files = builder.finish();
  });
  run(path, files, archive->size(), build_ms);
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) run_tar(argv[i]);
  if (argc > 1) return 0;
  for (const size_t entries : {size_t{100'000}, size_t{500'000}}) {
    FileTable files;
    uint64_t tar_size = 0;
    const double build_ms = best_ms([&] { files = synthetic(entries, tar_size); });
    run("synthetic", files, tar_size, build_ms);
  }
  return 0;
}
