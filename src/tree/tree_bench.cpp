// Merging 100,000 and 500,000 entries in 1 and 20 layers:
//   tree_tree_bench [repetitions]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

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
      double best = 1e9;
      size_t names = 0;
      for (int i = 0; i < repetitions; ++i) {
        const auto begin = cpu_ms();
        const auto tree = tree::merge(input);
        const double took = cpu_ms() - begin;
        if (!tree.ok()) return 1;
        best = std::min(best, took);
        names = tree->node_count();
      }
      std::printf("%zu entries, %zu layers: merge %.1f ms of CPU (best of %d), %zu names\n",
                  entries, layers, best, repetitions, names);
    }
  }
}
