#include "erofs/sample_trees.h"

#include <cstdlib>
#include <iostream>

#include "base/endian.h"
#include "tree/layer_maker.h"
#include "tree/merge.h"

namespace pagein::erofs {
namespace {

using tree::Layer;
using tree::LayerMaker;

tree::Tree merged(std::vector<Layer> layers, const tree::MergeOptions& options = {}) {
  auto tree = tree::merge(std::move(layers), options);
  if (!tree.ok()) {
    std::cerr << tree.error().message << '\n';
    std::abort();
  }
  return *std::move(tree);
}

// The kernel's form of an ACL: version 2, then tag, permissions, id.
std::string acl() {
  std::string out("\2\0\0\0", 4);
  const auto add = [&](uint16_t tag, uint16_t perm, uint32_t id) {
    uint8_t entry[8];
    store_le(entry, tag);
    store_le(entry + 2, perm);
    store_le(entry + 4, id);
    out.append(reinterpret_cast<const char*>(entry), sizeof entry);
  };
  add(1, 6, ~0u);
  add(2, 4, 1000);
  add(4, 4, ~0u);
  add(16, 4, ~0u);
  add(32, 4, ~0u);
  return out;
}

}  // namespace

tree::Tree every_kind() {
  LayerMaker lower;
  lower.with({.mode = 01777, .mtime_sec = 1'700'000'000}).dir("tmp");
  lower.with({.mode = 0755}).dir("bin");
  lower.with({.mode = 04755}).file("bin/su", 70'000);
  lower.with({.mode = 0644, .uid = 0xffffffff, .gid = 0xfffffffe}).file("bin/empty", 0);
  lower.with({.mode = 0, .mtime_sec = 5'000'000'000, .mtime_nsec = 999'999'999}).file("one", 1);
  lower.file("block", 4096).file("block+1", 4097).file("big", 3'000'001);
  lower.hardlink("bin/sudo", "bin/su").hardlink("su2", "bin/su");
  lower.symlink("sh", "bin/dash").symlink("long", std::string(4095, 'x'));
  lower.symlink("link4000", std::string(4000, 'y')).symlink("link4032", std::string(4032, 'z'));
  lower.symlink("link4033", std::string(4033, 'z')).hardlink("sh2", "sh");
  lower.device(LayerMaker::Type::char_device, "null", 1, 3)
      .device(LayerMaker::Type::block_device, "sda", 8, 0);
  lower.device(LayerMaker::Type::char_device, "wide", 4095, 1048575).fifo("fifo");
  lower
      .xattrs(
          {{"security.capability", std::string("\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20)}})
      .file("ping", 10);
  lower.xattrs({{"system.posix_acl_access", acl()}}).file("acl", 10);
  lower.xattrs({{"system.posix_acl_access", acl()}, {"system.posix_acl_default", acl()}})
      .dir("acls");
  lower.xattrs({{"user.x", "1"}, {"user.y", ""}}).file("acls/user", 5000);
  LayerMaker upper;
  upper.whiteout("one").file("bin/new", 12345).with({.mode = 0700, .uid = 7}).dir("tmp");
  upper.file("tmp/a/b/c", 9);
  return merged({lower.finish(), upper.finish()});
}

tree::Tree large_directory(size_t n) {
  LayerMaker layer;
  for (size_t i = 0; i < n; ++i) layer.file("d/file-" + std::to_string(i * 7919 % n), i % 3);
  return merged({layer.finish()});
}

tree::Tree long_names() {
  LayerMaker layer;
  for (const char c : std::string("aZ09\x7f\x80\xff!-./", 10)) {
    if (c == '/') continue;
    layer.file(std::string(255, c), 1);
    layer.file(std::string(1, c) + "x", 1);
    for (size_t i = 0; i < 40; ++i) layer.file("many/" + std::string(254 - i, c), 1);
  }
  layer.file("...", 1).file("..a", 1).file(".a", 1).file("!", 1).file("\x01", 1).file(" a\n", 1);
  layer.symlink("\xc3\xa4", "\xff\xfe");
  return merged({layer.finish()});
}

tree::Tree deep_tree(size_t depth) {
  LayerMaker layer;
  std::string path = "d";
  for (size_t i = 1; i < depth; ++i) path += "/d";
  layer.file(path + "/f", 100);
  return merged({layer.finish()});
}

tree::Tree many_layers(size_t n) {
  std::vector<Layer> layers;
  for (size_t i = 0; i < n; ++i) {
    LayerMaker layer;
    layer.file("from-" + std::to_string(i), i * 1000).file("last", i + 1);
    layer.file("dir/" + std::to_string(i * 31 % n), 5);
    layers.push_back(layer.finish());
  }
  return merged(std::move(layers));
}

tree::Tree sparse_files() {
  LayerMaker layer;
  layer.sparse("all-hole", 10'000'000'000, {});
  layer.sparse("one-byte-hole", 1, {});
  layer.sparse("start", 5ULL << 30, {{0, 10}});
  layer.sparse("end", (5ULL << 30) + 1, {{5ULL << 30, 1}});
  layer.sparse("middle", 6ULL << 30, {{3ULL << 30, 1 << 20}});
  layer.sparse("odd", 1 << 20, {{4096, 4096}, {5 * 4096, 100}, {200'000, 50'000}});
  layer.sparse("touching", 100'000, {{0, 100}, {200, 4000}, {8192, 8192}, {16384, 1}});
  layer.file("plain", 200'000).sparse("full", 8192, {{0, 8192}});
  return merged({layer.finish()});
}

tree::Tree many_xattrs() {
  LayerMaker layer;
  const std::string big(65535, 'v');
  layer.xattrs({{"user.big", big}}).file("big", 1);
  layer.xattrs({{"user.big", big}, {"user.other", std::string(60'000, 'w')}}).file("big2", 1);
  for (size_t i = 0; i < 200; ++i) {
    layer.xattrs(
        {{"security.selinux", "system_u:object_r:bin_t:s0"}, {"user.n", std::to_string(i)}});
    layer.file("se/" + std::to_string(i), 1);
  }
  LayerMaker::Xattrs many;
  for (size_t i = 0; i < 300; ++i) {
    many.emplace_back("user." + std::to_string(1000 + i), std::string(i % 40, 'x'));
  }
  layer.xattrs(many).file("many1", 1).xattrs(many).dir("many2").file("many2/f", 1);
  many.resize(100);
  for (auto& x : many) x.second += "unshared";
  layer.xattrs(many).dir("inline").xattrs(many).symlink("symlink", "dropped there");
  layer.file("inline/f", 1);
  layer.xattrs({{"user." + std::string(250, 'n'), "long name"}}).file("long", 1);
  layer.xattrs({{"security.x", "kept"}, {"user.x", "dropped"}}).symlink("link", "to");
  return merged({layer.finish()});
}

tree::Tree over_layers() {
  LayerMaker layer;
  layer.whiteout("gone").whiteout("gone2").opaque("opaque").file("opaque/f", 1);
  layer.xattrs({{"user.x", "1"}, {"security.x", "2"}}).dir("marked").opaque("marked");
  layer.file("usr/lib/x", 1).whiteout("usr/lib/y");
  tree::MergeOptions options;
  options.lower_directory =
      [](std::string_view path) -> Result<std::optional<tree::LowerDirectory>> {
    if (path != "usr") return std::nullopt;
    tree::LowerDirectory usr;
    usr.attributes.mode = 0711;
    usr.attributes.mtime_sec = -5;  // only from here: unpacking sets 0
    usr.attributes.mtime_nsec = 7;
    usr.xattrs = {{"user.z", "z"}, {"trusted.overlay.opaque", "y"}};
    return usr;
  };
  return merged({layer.finish()}, options);
}

}  // namespace pagein::erofs
