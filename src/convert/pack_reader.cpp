#include "convert/pack_reader.h"

#include <algorithm>

#include "convert/index_reader.h"
#include "convert/read_some.h"
#include "oci/annotations.h"
#include "registry/read_range.h"
#include "startup/pack_decoder.h"

namespace pagein::convert {
namespace {

constexpr size_t kMaxDifferences = 20;

// The spans of each layer that pieces name.
using Wanted = std::map<const index::LayerIndex*, std::vector<bool>>;

size_t count_files(const Wanted& wanted) {
  size_t files = 0;
  for (const auto& [layer, spans] : wanted) {
    for (const index::Entry& entry : layer->files.entries()) {
      if (entry.type != index::FileType::regular || entry.tar_length == 0) continue;
      if (entry.tar_offset >= layer->tar_size) continue;
      const uint64_t end = entry.tar_offset + entry.tar_length;
      for (size_t i = layer->span_at(entry.tar_offset);
           i < spans.size() && layer->spans[i].uncompressed_begin < end; ++i) {
        if (!spans[i]) continue;
        ++files;
        break;
      }
    }
  }
  return files;
}

Result<const index::LayerIndex*> layer_of(const startup::PackHead& head,
                                          const startup::Piece& piece,
                                          const IndexesByDiffId& indexes) {
  const auto it = indexes.find(head.diff_ids[piece.layer]);
  if (it == indexes.end()) {
    return Error(Code::corrupt_input, "a piece of a layer that the image does not have: " +
                                          head.diff_ids[piece.layer].str());
  }
  if (piece.first_span + uint64_t{piece.span_count} > it->second->spans.size()) {
    return Error(Code::corrupt_input, "a piece of spans that its layer does not have");
  }
  return it->second.get();
}

std::vector<uint64_t> span_sizes(const index::LayerIndex& layer, const startup::Piece& piece) {
  std::vector<uint64_t> sizes;
  for (size_t i = piece.first_span; i < size_t{piece.first_span} + piece.span_count; ++i) {
    sizes.push_back(layer.span_end(i) - layer.spans[i].uncompressed_begin);
  }
  return sizes;
}

class PackCheck {
 public:
  PackCheck(registry::ImageSource& source, const IndexesByDiffId& indexes,
            std::vector<std::string>* differences)
      : source_(source), indexes_(indexes), differences_(differences) {}

  Result<size_t> run(const startup::PackLocation& location);

 private:
  void differ(const std::string& what) {
    if (++found_ <= kMaxDifferences) differences_->push_back("startup pack: " + what);
  }
  void check_piece(const startup::PackHead& head, size_t number, ByteView frame);

  registry::ImageSource& source_;
  const IndexesByDiffId& indexes_;
  std::vector<std::string>* differences_;
  size_t found_ = 0;
  startup::PieceDecoder decoder_;
};

void PackCheck::check_piece(const startup::PackHead& head, size_t number, ByteView frame) {
  const startup::Piece& piece = head.pieces[number];
  const std::string name = "piece " + std::to_string(number) + ": ";
  const auto layer = layer_of(head, piece, indexes_);
  if (!layer.ok()) return differ(name + layer.error().message);
  if (piece.stored_size == 0) return;
  const auto spans = decoder_.decode(frame, span_sizes(**layer, piece));
  if (!spans.ok()) return differ(name + spans.error().message);
  for (size_t i = 0; i < spans->size(); ++i) {
    if (sha256((*spans)[i]) == (*layer)->spans[piece.first_span + i].digest) continue;
    return differ(name + "span " + std::to_string(piece.first_span + i) +
                  " does not have the digest that the index gives");
  }
}

Result<size_t> PackCheck::run(const startup::PackLocation& location) {
  const auto head = read_pack_head(*source_.blobs(), location);
  if (!head.ok() && head.error().code != Code::corrupt_input) return head.error();
  if (!head.ok()) {
    differ(head.error().message);
    return 0;
  }
  oci::Descriptor blob;
  blob.digest = location.digest;
  blob.size = location.size;
  if (head->blob_size() != location.size)
    differ("its pieces have another size than the manifest says");
  ASSIGN_OR_RETURN(const auto stream, source_.open_blob(blob));
  Bytes frame(location.head_size);
  Result<size_t> got = read_at_least(*stream, frame, frame.size());
  for (size_t i = 0; got.ok() && *got == frame.size() && i < head->pieces.size(); ++i) {
    frame.resize(head->pieces[i].stored_size);
    got = read_at_least(*stream, frame, frame.size());
    if (got.ok() && *got == frame.size()) check_piece(*head, i, frame);
  }
  uint8_t more;
  if (got.ok() && *got < frame.size()) differ("it ends early");
  else if (got.ok()) got = stream->read({&more, 1});
  if (!got.ok() && got.error().code != Code::corrupt_input) return got.error();
  if (!got.ok()) differ(got.error().message);
  else if (*got == 1) differ("it goes on behind its last piece");
  return static_cast<size_t>(std::count_if(head->pieces.begin(), head->pieces.end(),
                                           [](const auto& p) { return p.stored_size > 0; }));
}

}  // namespace

Result<startup::PackHead> read_pack_head(registry::BlobSource& source,
                                         const startup::PackLocation& location) {
  registry::BlobRead read;
  read.digest = location.digest;
  read.blob_size = location.size;
  read.length = location.head_size;
  ASSIGN_OR_RETURN(const Bytes head, registry::PendingRead(source, read).wait());
  if (oci::Digest::of(head) != location.head_digest) {
    return Error(Code::corrupt_input, "the head of startup pack " + location.digest.str() +
                                          " does not have the digest that the manifest gives");
  }
  return startup::parse_pack_head(head);
}

Result<PackContents> pack_contents(const startup::PackHead& head, const IndexesByDiffId& indexes) {
  PackContents contents;
  Wanted wanted;
  for (const startup::Piece& piece : head.pieces) {
    ASSIGN_OR_RETURN(const index::LayerIndex* layer, layer_of(head, piece, indexes));
    std::vector<bool>& spans = wanted[layer];
    spans.resize(layer->spans.size());
    uint64_t bytes = 0;
    for (size_t i = piece.first_span; i < size_t{piece.first_span} + piece.span_count; ++i) {
      spans[i] = true;
      bytes += layer->span_end(i) - layer->spans[i].uncompressed_begin;
    }
    ++contents.pieces;
    contents.tar_bytes += bytes;
    if (piece.stored_size == 0) continue;
    ++contents.stored_pieces;
    contents.stored_tar_bytes += bytes;
  }
  contents.files = count_files(wanted);
  return contents;
}

Result<size_t> check_pack(registry::ImageSource& source, const PlatformImage& image,
                          std::vector<std::string>* differences) {
  const auto location = startup::parse_pack_location(image.manifest.annotations);
  if (!location) return 0;
  IndexesByDiffId indexes;
  const auto blobs = source.blobs();
  for (size_t i = 0; i < image.manifest.layers.size(); ++i) {
    const auto index = index::parse_index_location(image.manifest.layers[i]);
    if (!index) continue;
    ASSIGN_OR_RETURN(auto head, read_index_head(*blobs, *index));
    indexes.emplace(image.config.diff_ids[i], std::move(head));
  }
  return PackCheck(source, indexes, differences).run(*location);
}

}  // namespace pagein::convert
