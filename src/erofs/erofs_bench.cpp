// From file tables to EROFS metadata, 100,000 and 500,000 entries in 1 and 20 layers:
//   erofs_erofs_bench [repetitions]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "erofs/writer.h"
#include "tree/layers_for_bench.h"
#include "tree/merge.h"

namespace {

// Of this process: what other programs do on the machine does not count.
double cpu_ms() {
  timespec now;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) * 1e3 + static_cast<double>(now.tv_nsec) / 1e6;
}

}  // namespace

int main(int argc, char** argv) {
  using namespace pagein;
  const int repetitions = argc > 1 ? std::atoi(argv[1]) : 5;
  for (const size_t entries : {100'000, 500'000}) {
    for (const size_t layers : {1, 20}) {
      const auto input = tree::layers_for_bench(entries, layers);
      double best_merge = 1e9;
      double best_write = 1e9;
      size_t size = 0;
      for (int i = 0; i < repetitions; ++i) {
        const auto begin = cpu_ms();
        const auto tree = tree::merge(input);
        const auto merged = cpu_ms();
        if (!tree.ok()) return 1;
        const auto image = erofs::write_metadata(*tree, erofs::options_for(*tree));
        const auto written = cpu_ms();
        if (!image.ok()) return 1;
        size = image->size();
        best_merge = std::min(best_merge, merged - begin);
        best_write = std::min(best_write, written - merged);
      }
      std::printf("%zu entries, %zu layers: merge %.1f + write %.1f = %.1f ms of CPU, %.1f MB\n",
                  entries, layers, best_merge, best_write, best_merge + best_write,
                  static_cast<double>(size) / 1e6);
    }
  }
}
