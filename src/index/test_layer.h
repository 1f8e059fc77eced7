// Makes small layers with an index, for tests of whatever stores, fetches or
// mounts layers. For tests only; its users link pagein_tar and ZLIB::ZLIB.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>

#include "base/sha256.h"
#include "codec/span_indexer.h"
#include "index/file_table_builder.h"
#include "index/layer_index_builder.h"
#include "tar/stream_reader.h"
#include "tar/test_archive.h"

namespace pagein::index::testing {

struct TestLayerOptions {
  codec::Encoding encoding = codec::Encoding::gzip;
  // Of other encodings than gzip; none: plain tar.
  std::function<Bytes(ByteView)> compress = {};
  uint64_t spacing = codec::kMinSpacing;
  int level = 6;
  // An index that lies: it claims this diffID.
  std::optional<oci::Digest> claimed_diff_id = {};
};

// A layer in all its forms. A value.
struct TestLayer {
  Bytes tar;
  Bytes blob;        // as a registry has it
  Bytes head;        // of the index
  Bytes index_blob;  // head, then checkpoint payloads
  std::shared_ptr<const LayerIndex> index;

  oci::Digest index_digest() const { return oci::Digest::of(index_blob); }
  ByteView span(size_t i) const {
    const uint64_t begin = index->spans[i].uncompressed_begin;
    return ByteView(tar).subspan(begin, index->span_end(i) - begin);
  }
  // What the layer's data file must hold.
  Bytes data() const {
    Bytes out(index->layout.data_size());
    for (const Extent& extent : index->layout.extents()) {
      std::copy_n(tar.begin() + static_cast<ptrdiff_t>(extent.tar_offset), extent.length,
                  out.begin() + static_cast<ptrdiff_t>(extent.data_offset));
    }
    return out;
  }
};

// Our own mistakes: nothing that a test would check.
template <typename T>
T must(Result<T> result) {
  if (result.ok()) return *std::move(result);
  std::fprintf(stderr, "test layer: %s\n", result.error().message.c_str());
  std::abort();
}
inline void must(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "test layer: %s\n", status.error().message.c_str());
  std::abort();
}

inline Bytes gzip(ByteView data, int level) {
  z_stream z{};
  deflateInit2(&z, level, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
  Bytes out(deflateBound(&z, data.size()) + 64);
  z.next_in = const_cast<Bytef*>(data.data());
  z.avail_in = static_cast<uInt>(data.size());
  z.next_out = out.data();
  z.avail_out = static_cast<uInt>(out.size());
  deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

// Collects the tar, and hashes each span.
class HashingSink : public codec::IndexSink {
 public:
  explicit HashingSink(LayerIndexBuilder& builder) : builder_(builder) {}
  Status on_output(ByteView piece) override {
    hash_.update(piece);
    tar_.insert(tar_.end(), piece.begin(), piece.end());
    return {};
  }
  Status on_checkpoint(codec::Checkpoint checkpoint) override {
    end_span();
    open_ = std::move(checkpoint);
    return {};
  }
  Status on_payload(Bytes payload) override {
    open_->payload = std::move(payload);
    return {};
  }
  void end_span() {
    if (open_) {
      builder_.add_span(open_->uncompressed_offset, {open_->kind, open_->compressed_bit},
                        open_->payload, hash_.finish());
    }
    hash_.reset();
    open_.reset();
  }
  const Bytes& tar() const { return tar_; }

 private:
  LayerIndexBuilder& builder_;
  std::optional<codec::Checkpoint> open_;
  Sha256 hash_;
  Bytes tar_;
};

inline TestLayer make_test_layer(std::string_view tar, const TestLayerOptions& options = {}) {
  TestLayer layer;
  layer.tar.assign(tar.begin(), tar.end());
  layer.blob =
      options.encoding == codec::Encoding::gzip ? gzip(layer.tar, options.level) : layer.tar;
  if (options.compress) layer.blob = options.compress(layer.tar);

  LayerIndexBuilder builder;
  HashingSink sink(builder);
  auto indexer =
      must(codec::make_span_indexer(options.encoding, {.spacing = options.spacing}, sink));
  must(indexer->feed(layer.blob));
  const codec::IndexSummary summary = must(indexer->finish());
  sink.end_span();

  FileTableBuilder files;
  tar::StreamReader reader(files);
  must(reader.feed(layer.tar));
  must(reader.finish());

  LayerFacts facts;
  facts.encoding = summary.encoding;
  facts.layer_digest = oci::Digest::of(layer.blob);
  facts.layer_size = layer.blob.size();
  facts.diff_id = options.claimed_diff_id.value_or(oci::Digest::of(layer.tar));
  facts.tar_size = layer.tar.size();
  facts.span_spacing = options.spacing;
  EncodedIndex encoded = must(builder.finish(facts, files.finish()));
  layer.head = std::move(encoded.head);
  layer.index_blob = layer.head;
  layer.index_blob.insert(layer.index_blob.end(), encoded.checkpoints.begin(),
                          encoded.checkpoints.end());
  layer.index = must(parse_head(layer.head));
  return layer;
}

// Compresses to about half; no two calls with different seeds share content.
inline std::string test_text(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string out;
  out.reserve(size + 16);
  while (out.size() < size) {
    out += "layer " + std::to_string(random() % 997) + " ";
    for (int i = 0; i < 6; ++i) out += static_cast<char>(random());
  }
  out.resize(size);
  return out;
}

// About 1.6 MiB with what a store can stumble over: files longer than a span,
// many tiny ones, empty ones, sparse ones, and entries without content.
inline std::string sample_tar(uint32_t seed = 1) {
  tar::TestArchive archive;
  archive.directory("./").directory("usr/");
  archive.file("usr/straddles", test_text(300'001, seed));
  archive.file("usr/empty", "");
  for (int i = 0; i < 300; ++i) {
    archive.file("usr/tiny" + std::to_string(i), test_text(static_cast<size_t>(i % 40), seed + 10));
  }
  archive.file("usr/blocks", test_text(64 * 4096, seed + 2));
  // Two stored pieces far apart, neither at the edge of a block.
  archive.pax({{"GNU.sparse.name", "usr/sparse"},
               {"GNU.sparse.size", "10000000"},
               {"GNU.sparse.numblocks", "3"},
               {"GNU.sparse.map", "5000,100000,9000000,70001,9100000,3"}});
  archive.file("GNUSparseFile.0/sparse", test_text(170'004, seed + 3));
  archive.header({.name = "usr/link", .type = '2', .link = "blocks"});
  archive.file("usr/zeros", std::string(200'000, '\0'));
  archive.file("usr/last", test_text(400'000, seed + 4)).end();
  return archive.bytes();
}

}  // namespace pagein::index::testing
