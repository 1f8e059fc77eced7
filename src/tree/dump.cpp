#include "tree/dump.h"

#include <algorithm>
#include <cstdio>

namespace pagein::tree {
namespace {

using index::FileType;

char type_letter(FileType type) {
  switch (type) {
    case FileType::regular: return '-';
    case FileType::directory: return 'd';
    case FileType::symlink: return 'l';
    case FileType::char_device:
    case FileType::whiteout:  // a device 0:0, which an image cannot bring
      return 'c';
    case FileType::block_device: return 'b';
    case FileType::fifo: return 'p';
    default: return '?';
  }
}

void append_escaped(std::string_view text, std::string* out) {
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (u > 0x20 && u < 0x7f && c != '\\') {
      *out += c;
    } else {
      char hex[5];
      std::snprintf(hex, sizeof hex, "\\x%02x", u);
      *out += hex;
    }
  }
}

}  // namespace

void append_line(const DumpLine& line, std::string* out) {
  const Attributes& a = line.attributes;
  append_escaped(line.path.empty() ? "." : line.path, out);
  char text[200];
  std::snprintf(text, sizeof text, " %c %04o %u:%u nlink=%u size=%llu mtime=%lld.%09u dev=%u:%u",
                type_letter(a.type), a.mode, a.uid, a.gid, a.nlink,
                static_cast<unsigned long long>(a.size), static_cast<long long>(a.mtime_sec),
                a.mtime_nsec, a.dev_major, a.dev_minor);
  *out += text;
  if (!line.link_to.empty()) {
    *out += " same-as=";
    append_escaped(line.link_to, out);
  }
  if (!line.target.empty()) {
    *out += " -> ";
    append_escaped(line.target, out);
  }
  for (const auto& [key, value] : line.xattrs) {
    *out += ' ';
    append_escaped(key, out);
    *out += '=';
    append_escaped(value, out);
  }
  for (const DumpExtent& e : line.extents) {
    std::snprintf(text, sizeof text, " [%llu+%llu]=%u@%llu",
                  static_cast<unsigned long long>(e.file_offset),
                  static_cast<unsigned long long>(e.length), e.device,
                  static_cast<unsigned long long>(e.device_offset));
    *out += text;
  }
  *out += '\n';
}

std::string dump(const Tree& tree) {
  std::string out;
  for (NodeId node = 0; node < tree.node_count(); ++node) {
    const InodeId inode = tree.inode(node);
    DumpLine line;
    line.path = tree.path(node);
    line.attributes = tree.attributes(inode);
    if (tree.first_node(inode) != node) line.link_to = tree.path(tree.first_node(inode));
    line.target = tree.symlink_target(inode);
    for (const auto& xattr : tree.xattrs(inode)) line.xattrs.emplace_back(xattr.name, xattr.value);
    const Content content = tree.content(inode);
    for (const index::Region& region : content.regions) {
      DumpExtent* last = line.extents.empty() ? nullptr : &line.extents.back();
      if (last != nullptr && last->file_offset + last->length == region.file_offset &&
          last->device_offset + last->length == region.data_offset) {
        last->length += region.length;
      } else {
        line.extents.push_back(
            {region.file_offset, region.length, content.layer, region.data_offset});
      }
    }
    append_line(line, &out);
  }
  return out;
}

}  // namespace pagein::tree
