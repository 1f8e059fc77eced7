// For benchmarks: layers shaped like images of many small files.
#pragma once

#include <string>
#include <vector>

#include "tree/layer_maker.h"

namespace pagein::tree {

// About `entries` entries over `layers` layers: directories of 12 files four levels
// deep, as npm and distribution packages make them; a tenth of an upper layer's
// files replace lower ones, some are whiteouts.
inline std::vector<Layer> layers_for_bench(size_t entries, size_t layers) {
  std::vector<Layer> out;
  size_t lower_directories = 0;
  size_t next_directory = 0;
  const auto directory = [](size_t d) {
    return "usr/lib/node_modules/package-" + std::to_string(d / 8) + "/lib-" +
           std::to_string(d % 8);
  };
  for (size_t l = 0; l < layers; ++l) {
    LayerMaker layer;
    layer.with({.mode = 0755}).dir("usr").with({.mode = 0755}).dir("usr/lib");
    layer.with({.mode = 0755}).dir("usr/lib/node_modules");
    size_t made = 3;
    for (size_t d = next_directory; made < entries / layers; ++d) {
      if (d % 8 == 0 || d == next_directory) {
        layer.with({.mode = 0755}).dir("usr/lib/node_modules/package-" + std::to_string(d / 8));
        ++made;
      }
      const std::string path = directory(d);
      layer.with({.mode = 0755, .mtime_sec = 1'600'000'000}).dir(path);
      for (size_t f = 0; f < 12; ++f) {
        layer.with({.mode = 0644, .mtime_sec = 1'600'000'000});
        layer.file(path + "/module-" + std::to_string(f) + ".js", 100 + d * 37 % 9000);
      }
      made += 13;
      if (lower_directories > 0 && d % 10 == 0) {
        layer.file(directory(d % lower_directories) + "/module-3.js", 5);
        layer.whiteout(directory(d * 7 % lower_directories) + "/module-5.js");
        made += 2;
      }
      next_directory = d + 1;
    }
    lower_directories = next_directory;
    out.push_back(layer.finish());
  }
  return out;
}

}  // namespace pagein::tree
