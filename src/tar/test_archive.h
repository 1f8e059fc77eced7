// Makes small tar archives byte by byte, for tests and fuzz seeds only: it has
// to be able to write what no tar program would.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pagein::tar {

class TestArchive {
 public:
  struct Header {
    std::string name = "file";
    char type = '0';
    std::string link;
    std::string mode = "0000644";
    std::string uid = "0001750";
    std::string gid = "0001750";
    std::string size = {};  // default: that of the content
    std::string mtime = "14000000000";
    std::string magic{
        "ustar\0"
        "00",
        8};
    std::string dev_major = "0000000";
    std::string dev_minor = "0000000";
    std::string prefix;
    std::vector<std::pair<size_t, std::string>> patches = {};  // offset, bytes
    bool break_checksum = false;
  };

  TestArchive& header(const Header& h, uint64_t content_size = 0) {
    std::string block(512, '\0');
    auto put = [&](size_t at, std::string_view text) { block.replace(at, text.size(), text); };
    put(0, h.name);
    put(100, h.mode);
    put(108, h.uid);
    put(116, h.gid);
    put(124, h.size.empty() ? octal(content_size, 11) : h.size);
    put(136, h.mtime);
    put(148, "        ");
    block[156] = h.type;
    put(157, h.link);
    put(257, h.magic);
    put(329, h.dev_major);
    put(337, h.dev_minor);
    put(345, h.prefix);
    for (const auto& [at, text] : h.patches) put(at, text);
    unsigned sum = h.break_checksum ? 1 : 0;
    for (const char c : block) sum += static_cast<uint8_t>(c);
    put(148, octal(sum, 6) + std::string("\0 ", 2));
    bytes_ += block;
    return *this;
  }
  TestArchive& content(std::string_view text) {
    bytes_ += text;
    bytes_.append((512 - text.size() % 512) % 512, '\0');
    return *this;
  }
  TestArchive& file(std::string_view name, std::string_view text) {
    return entry({.name = std::string(name)}, text);
  }
  TestArchive& directory(std::string_view name) {
    return header({.name = std::string(name), .type = '5', .mode = "0000755"});
  }
  TestArchive& entry(const Header& h, std::string_view text) {
    return header(h, text.size()).content(text);
  }
  using Records = std::vector<std::pair<std::string, std::string>>;
  TestArchive& pax(const Records& records, char type = 'x') {
    std::string text;
    for (const auto& [key, value] : records) text += record(key, value);
    return entry({.name = "pax", .type = type}, text);
  }
  TestArchive& end() { return zeros(1024); }
  TestArchive& zeros(size_t count) {
    bytes_.append(count, '\0');
    return *this;
  }
  TestArchive& raw(std::string_view text) {
    bytes_ += text;
    return *this;
  }

  const std::string& bytes() const { return bytes_; }

  // "LENGTH KEY=VALUE\n", the length counting itself.
  static std::string record(std::string_view key, std::string_view value) {
    const size_t rest = key.size() + value.size() + 3;
    size_t length = rest + 1;
    while (length != rest + std::to_string(length).size()) ++length;
    std::string out = std::to_string(length);
    out += ' ';
    out += key;
    out += '=';
    out += value;
    out += '\n';
    return out;
  }
  static std::string octal(uint64_t value, int digits) {
    char text[32];
    std::snprintf(text, sizeof text, "%0*llo", digits, static_cast<unsigned long long>(value));
    return text;
  }

 private:
  std::string bytes_;
};

}  // namespace pagein::tar
