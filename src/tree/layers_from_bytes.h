// For fuzzing: layers of few names, so that entries meet, from any bytes.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "index/file_table_builder.h"
#include "tree/tree.h"

namespace pagein::tree {

class LayersFromBytes {
 public:
  LayersFromBytes(const uint8_t* data, size_t size) : data_(data), end_(data + size) {}

  std::vector<Layer> all() {
    std::vector<Layer> layers;
    do {
      if (auto layer = one()) layers.push_back(*layer);
    } while (data_ < end_ && layers.size() < 40);
    return layers;
  }
  uint8_t byte() { return data_ < end_ ? *data_++ : 0; }

 private:
  std::optional<Layer> one() {
    index::FileTableBuilder builder;
    tar_ = 0;
    while (data_ < end_) {
      const uint8_t kind = byte();
      if (kind == 255) break;
      (void)builder.add(entry(kind)).ok();  // what it refuses is not there
    }
    auto files = std::make_shared<const index::FileTable>(builder.finish());
    auto layout = index::DataLayout::build(*files);
    if (!layout.ok()) return std::nullopt;
    return Layer{files, std::make_shared<const index::DataLayout>(*std::move(layout))};
  }

  tar::Entry entry(uint8_t kind) {
    tar::Entry entry;
    entry.path = path();
    entry.mode = static_cast<uint16_t>(kind * 37 & 07777);
    entry.uid = kind;
    entry.mtime_sec = kind;
    switch (kind % 12) {
      case 0:
      case 1:
      case 2: entry.type = tar::EntryType::directory; break;
      case 3:
        entry.type = tar::EntryType::symlink;
        entry.link_target = (byte() & 1 ? "/" : "") + path();
        break;
      case 4:
        entry.type = tar::EntryType::hardlink;
        entry.link_target = path();
        break;
      case 5:
        entry.type = tar::EntryType::char_device;
        entry.dev_minor = byte() % 3;
        break;
      case 6: entry.path += "/.wh..wh..opq"; break;
      case 7: entry.path.insert(entry.path.rfind('/') + 1, ".wh."); break;
      case 8: make_sparse(&entry); break;
      default: entry.size = entry.content_length = byte() * 40u;
    }
    if (kind & 64) {
      const std::string value(byte() * 9, static_cast<char>(kind));
      entry.xattrs = {{"trusted.overlay.opaque", "y"}, {"user.x", value}};
    }
    entry.content_offset = tar_;
    tar_ += entry.content_length;
    return entry;
  }

  void make_sparse(tar::Entry* entry) {
    entry->sparse = true;
    uint64_t at = 0;
    for (size_t i = byte() % 6; i-- > 0;) {
      at += byte() * 1024u;
      const uint64_t length = 1 + byte() * 256u;
      entry->segments.push_back({at, length});
      entry->content_length += length;
      at += length;
    }
    entry->size = at + byte() * uint64_t{4096};
  }

  // One to four components of few names; now and then a long one.
  std::string path() {
    static const std::string kNames[] = {"a",  "b", "c", "..", ".", "d0", std::string(255, 'n'),
                                         "sym"};
    std::string out;
    for (size_t n = byte() % 4 + 1; n-- > 0;) {
      if (!out.empty()) out += '/';
      out += kNames[byte() % 8];
    }
    return out;
  }

  const uint8_t* data_;
  const uint8_t* end_;
  uint64_t tar_ = 0;
};

}  // namespace pagein::tree
