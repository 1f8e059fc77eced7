// Runs a fuzz target over the files of its seed folder (or single files), so
// that every build checks the seeds even where libFuzzer is not there.
// Exits 77 (skipped) never: a target without seeds is an error.

#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {
void run(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::vector<char> bytes((std::istreambuf_iterator<char>(in)), {});
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
}
}  // namespace

int main(int argc, char** argv) {
  size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    if (std::filesystem::is_directory(argv[i])) {
      for (const auto& file : std::filesystem::directory_iterator(argv[i])) {
        run(file.path());
        ++count;
      }
    } else {
      run(argv[i]);
      ++count;
    }
  }
  std::printf("%zu seeds\n", count);
  return count > 0 ? 0 : 1;
}
