// Any layers: the image reads back as the tree that it was written from.
#include <cstdlib>

#include "erofs/dump.h"
#include "erofs/writer.h"
#include "tree/dump.h"
#include "tree/layers_from_bytes.h"
#include "tree/merge.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace pagein;
  tree::LayersFromBytes input(data, size);
  tree::MergeOptions options;
  if (input.byte() & 1) {
    options.lower_directory = [](std::string_view) -> Result<std::optional<tree::LowerDirectory>> {
      return std::nullopt;
    };
  }
  const auto layers = input.all();
  if (layers.empty()) return 0;
  const auto tree = tree::merge(layers, options);
  if (!tree.ok()) return 0;
  const auto image = erofs::write_metadata(*tree, erofs::options_for(*tree));
  if (!image.ok()) return 0;
  const auto reader = erofs::Reader::open(*image);
  if (!reader.ok()) std::abort();
  const auto text = erofs::dump(*reader);
  if (!text.ok() || *text != tree::dump(*tree)) std::abort();
  return 0;
}
