// Platform names and their order of preference, as containerd has them
// (platforms/database.go and compare.go: which names mean the same, which
// older variant a machine also runs).
#include <algorithm>
#include <charconv>

#include "oci/descriptor.h"

namespace pagein::oci {

namespace {

std::string lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return out;
}

bool is_known_os(std::string_view os) {
  static constexpr std::string_view kKnown[] = {"linux",   "windows", "darwin",  "freebsd",
                                                "netbsd",  "openbsd", "solaris", "illumos",
                                                "android", "wasip1",  "js",      "unknown"};
  return std::find(std::begin(kKnown), std::end(kKnown), os) != std::end(kKnown);
}

// "v8" -> 80, "v8.1" -> 81; 0 for what is not of that shape.
int variant_level(std::string_view variant) {
  if (!variant.starts_with('v')) return 0;
  const char* end = variant.data() + variant.size();
  int major = 0;
  int minor = 0;
  auto [next, error] = std::from_chars(variant.data() + 1, end, major);
  if (error != std::errc() || major < 1 || major > 99) return 0;
  if (next != end) {
    if (*next != '.') return 0;
    auto [last, minor_error] = std::from_chars(next + 1, end, minor);
    if (minor_error != std::errc() || last != end || minor < 0 || minor > 9) return 0;
  }
  return major * 10 + minor;
}

// What an empty variant stands for once the platform is normalised.
int level(const Platform& platform) {
  if (!platform.variant.empty()) return variant_level(platform.variant);
  if (platform.architecture == "amd64") return 10;
  if (platform.architecture == "arm64") return 80;
  if (platform.architecture == "arm") return 70;
  return 0;
}

bool is_valid_part(std::string_view part) {
  return !part.empty() && part.size() <= 64 && std::all_of(part.begin(), part.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  });
}

void normalize_architecture(std::string* arch, std::string* variant) {
  if (*arch == "i386") *arch = "386";
  if (*arch == "x86_64" || *arch == "x86-64") *arch = "amd64";
  if (*arch == "aarch64") *arch = "arm64";
  if (*arch == "armhf" || *arch == "armel") {
    *variant = *arch == "armhf" ? "v7" : "v6";
    *arch = "arm";
  }
  const bool arm = *arch == "arm" || *arch == "arm64";
  if (arm && !variant->empty() && !variant->starts_with('v')) *variant = "v" + *variant;
  if (*arch == "386" || (*arch == "amd64" && *variant == "v1")) variant->clear();
  if (*arch == "arm64" && (*variant == "v8" || *variant == "v8.0")) variant->clear();
  if (*arch == "arm" && variant->empty()) *variant = "v7";
}

}  // namespace

Platform Platform::normalized() const {
  Platform out = *this;
  out.os = lower(out.os);
  out.architecture = lower(out.architecture);
  out.variant = lower(out.variant);
  if (out.os == "macos") out.os = "darwin";
  normalize_architecture(&out.architecture, &out.variant);
  return out;
}

Platform Platform::host() {
  Platform out;
  out.os = "linux";
#if defined(__x86_64__)
  out.architecture = "amd64";
#elif defined(__aarch64__)
  out.architecture = "arm64";
#elif defined(__arm__)
  out.architecture = "arm";
#elif defined(__i386__)
  out.architecture = "386";
#elif defined(__riscv)
  out.architecture = "riscv64";
#elif defined(__powerpc64__)
  out.architecture = "ppc64le";
#elif defined(__s390x__)
  out.architecture = "s390x";
#else
#error "name this architecture as Go does (GOARCH)"
#endif
  return out.normalized();
}

Result<Platform> Platform::parse(std::string_view text) {
  auto bad = [&] {
    return Error(Code::invalid_argument,
                 "platform \"" + std::string(text.substr(0, 100)) +
                     "\": expected os/architecture[/variant], as in linux/amd64 or linux/arm/v7");
  };
  std::vector<std::string_view> parts;
  for (size_t start = 0; start <= text.size();) {
    const size_t slash = std::min(text.find('/', start), text.size());
    parts.push_back(text.substr(start, slash - start));
    start = slash + 1;
    if (parts.size() > 3 || !is_valid_part(parts.back())) return bad();
  }
  Platform out = host();
  if (parts.size() == 1) {
    if (is_known_os(lower(parts[0]))) {
      out.os = std::string(parts[0]);
    } else {
      out.architecture = std::string(parts[0]);
      out.variant.clear();
    }
    return out.normalized();
  }
  out.os = std::string(parts[0]);
  out.architecture = std::string(parts[1]);
  out.variant = parts.size() == 3 ? std::string(parts[2]) : std::string();
  return out.normalized();
}

std::string Platform::str() const {
  std::string out = os + "/" + architecture;
  if (!variant.empty()) out += "/" + variant;
  return out;
}

int match_platform(const Platform& wanted_in, const Platform& candidate_in) {
  const Platform wanted = wanted_in.normalized();
  const Platform candidate = candidate_in.normalized();
  if (wanted.os != candidate.os) return 0;
  if (wanted.architecture == candidate.architecture) {
    if (wanted.variant == candidate.variant) return 2000;
    const int want = level(wanted);
    const int have = level(candidate);
    return want > 0 && have > 0 && have <= want ? 1000 + have : 0;
  }
  // 64-bit machines run their 32-bit sibling's programs, at a pinch.
  if (wanted.architecture == "amd64" && candidate.architecture == "386") return 1;
  if (wanted.architecture == "arm64" && candidate.architecture == "arm") {
    const int have = level(candidate);
    return have > 0 && have <= 80 ? have : 0;
  }
  return 0;
}

}  // namespace pagein::oci
