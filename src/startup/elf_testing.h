// For tests: a little-endian ELF file with the tables that matter.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/byte_reader.h"

namespace pagein::startup {

struct ElfMaker {
  std::string interpreter;
  std::vector<std::string> needed;
  std::string rpath;
  std::string runpath;
  uint16_t machine = 62;  // x86-64
  size_t size = 4096;     // of the file; the tables lie at its begin

  // Address = offset; one loaded segment covers all but the last 16 bytes.
  Bytes make() const {
    Bytes strings = {0};
    const auto text = [&](const std::string& value) {
      const uint64_t at = strings.size();
      strings.insert(strings.end(), value.begin(), value.end());
      strings.push_back(0);
      return at;
    };
    std::vector<std::pair<uint64_t, uint64_t>> dynamic;
    for (const std::string& name : needed) dynamic.emplace_back(1, text(name));
    if (!rpath.empty()) dynamic.emplace_back(15, text(rpath));
    if (!runpath.empty()) dynamic.emplace_back(29, text(runpath));
    const uint64_t dynamic_at = 64 + 3 * 56;
    const uint64_t dynamic_size = (dynamic.size() + 2) * 16;
    const uint64_t strings_at = dynamic_at + dynamic_size;
    dynamic.emplace_back(5, strings_at);
    dynamic.emplace_back(0, 0);
    const uint64_t interpreter_at = strings_at + text(interpreter);

    ByteWriter out;
    out.bytes(
        as_bytes(std::string("\x7f"
                             "ELF\2\1\1\0\0\0\0\0\0\0\0\0",
                             16)));
    out.u16(3);  // ET_DYN
    out.u16(machine);
    out.u32(1);
    out.u64(0);   // entry
    out.u64(64);  // program headers
    out.u64(0);   // section headers
    out.u32(0);
    out.u16(64);
    out.u16(56);
    out.u16(3);
    out.u16(0);
    out.u16(0);
    out.u16(0);
    const auto header = [&](uint32_t type, uint64_t at, uint64_t length) {
      out.u32(type);
      out.u32(4);
      for (const uint64_t value : {at, at, at, length, length, uint64_t{8}}) out.u64(value);
    };
    header(1, 0, size - 16);
    header(interpreter.empty() ? 0 : 3, interpreter_at, interpreter.size() + 1);
    header(2, dynamic_at, dynamic_size);
    for (const auto& [tag, value] : dynamic) {
      out.u64(tag);
      out.u64(value);
    }
    out.bytes(strings);
    Bytes file = out.take();
    file.resize(size);
    return file;
  }
};

}  // namespace pagein::startup
