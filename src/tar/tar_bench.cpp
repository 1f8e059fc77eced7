// How fast the tar reader scans: tar_bench [FILE.tar ...], or without
// arguments two synthetic archives in memory (big files, small files).
// Prints GB/s of tar and ns per entry, best of some runs, in CPU time (so that
// a busy machine disturbs it less).

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <string>

#include "base/file.h"
#include "tar/stream_reader.h"

namespace {

using namespace pagein;  // NOLINT: a benchmark

constexpr size_t kPiece = 128 << 10;
constexpr int kRuns = 7;

double cpu_seconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

class Counter : public tar::EntrySink {
 public:
  Status on_entry(const tar::Entry& entry) override {
    ++entries;
    bytes += entry.size;
    return {};
  }
  uint64_t entries = 0;
  uint64_t bytes = 0;
};

std::string header(const std::string& name, size_t size) {
  std::string block(tar::kBlockSize, '\0');
  auto put = [&](size_t at, const std::string& text) { block.replace(at, text.size(), text); };
  char number[16];
  put(0, name);
  put(100, "0000644");
  put(108, "0001000");
  put(116, "0001000");
  std::snprintf(number, sizeof number, "%011zo", size);
  put(124, number);
  put(136, "14000000000");
  put(148, "        ");
  put(156, "0");
  put(257, std::string("ustar\0"
                       "00",
                       8));
  unsigned sum = 0;
  for (const char c : block) sum += static_cast<uint8_t>(c);
  std::snprintf(number, sizeof number, "%06o", sum);
  put(148, std::string(number, 7));
  return block;
}

std::string synthetic(size_t total, size_t file_size) {
  std::string archive;
  for (size_t i = 0; archive.size() < total; ++i) {
    archive += header("usr/lib/node_modules/package-" + std::to_string(i % 999) + "/file-" +
                          std::to_string(i) + ".js",
                      file_size);
    archive.append((file_size + 511) & ~size_t{511}, 'x');
  }
  archive.append(1024, '\0');
  return archive;
}

void run(const char* label, const std::string& archive) {
  double best = 1e9;
  Counter counter;
  for (int i = 0; i < kRuns; ++i) {
    counter = {};
    tar::StreamReader reader(counter);
    const double start = cpu_seconds();
    for (size_t at = 0; at < archive.size(); at += kPiece) {
      const size_t count = std::min(kPiece, archive.size() - at);
      if (Status status = reader.feed(as_bytes(archive).subspan(at, count)); !status.ok()) {
        std::printf("%s: %s\n", label, status.error().message.c_str());
        return;
      }
    }
    if (Status status = reader.finish(); !status.ok()) {
      std::printf("%s: %s\n", label, status.error().message.c_str());
      return;
    }
    best = std::min(best, cpu_seconds() - start);
  }
  std::printf("%s: %.1f MB, %llu entries, %.2f GB/s, %.0f ns per entry\n", label,
              static_cast<double>(archive.size()) / 1e6,
              static_cast<unsigned long long>(counter.entries),
              static_cast<double>(archive.size()) / best / 1e9,
              best * 1e9 / static_cast<double>(counter.entries));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    run("files of 1 MiB", synthetic(256 << 20, 1 << 20));
    run("files of 1.5 KiB", synthetic(64 << 20, 1500));
    return 0;
  }
  for (int i = 1; i < argc; ++i) {
    const auto archive = pagein::read_file(argv[i], 4ULL << 30);
    if (!archive.ok()) {
      std::printf("%s\n", archive.error().message.c_str());
      return 1;
    }
    run(argv[i], *archive);
  }
  return 0;
}
