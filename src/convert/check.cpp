#include "convert/check.h"

#include <algorithm>
#include <set>

#include "codec/span_decoder.h"
#include "convert/base_image.h"
#include "convert/index_reader.h"
#include "convert/pack_reader.h"
#include "convert/table_compare.h"
#include "convert/tar_stream.h"
#include "index/file_table_builder.h"
#include "tar/stream_reader.h"

namespace pagein::convert {
namespace {

constexpr size_t kMaxDifferences = 100;

// Bytes [from, to) of a stream that is read once, in order; ranges may overlap
// by a little, as those of adjacent spans do.
class Slider {
 public:
  explicit Slider(std::unique_ptr<ByteStream> stream) : stream_(std::move(stream)) {}

  Result<ByteView> range(uint64_t from, uint64_t to) {
    if (from > begin_) {
      while (begin_ + buffer_.size() < from) {
        begin_ += buffer_.size();
        buffer_.clear();
        RETURN_IF_ERROR(more());
      }
      buffer_.erase(buffer_.begin(), buffer_.begin() + static_cast<ptrdiff_t>(from - begin_));
      begin_ = from;
    }
    while (begin_ + buffer_.size() < to) RETURN_IF_ERROR(more());
    return ByteView(buffer_).subspan(from - begin_, to - from);
  }

 private:
  Status more() {
    const size_t old = buffer_.size();
    buffer_.resize(old + (256 << 10));
    ASSIGN_OR_RETURN(const size_t n, stream_->read(std::span(buffer_).subspan(old)));
    buffer_.resize(old + n);
    if (n == 0) return Error(Code::corrupt_input, "the blob ends early");
    return {};
  }

  std::unique_ptr<ByteStream> stream_;
  uint64_t begin_ = 0;
  Bytes buffer_;
};

// The file whose content covers the tar offset, for a message.
std::string file_at(const index::LayerIndex& index, uint64_t tar_offset) {
  for (index::EntryId id = 0; id < index.files.size(); ++id) {
    const index::Entry& entry = index.files[id];
    if (entry.type == index::FileType::regular && entry.tar_offset <= tar_offset &&
        tar_offset < entry.tar_offset + entry.tar_length) {
      return "file " + index.files.path(id) + ", byte " +
             std::to_string(tar_offset - entry.tar_offset);
    }
  }
  return "tar headers";
}

class LayerCheck {
 public:
  LayerCheck(registry::ImageSource& base, registry::ImageSource& accelerated, CheckReport* report)
      : base_(base), accelerated_(accelerated), report_(report) {}

  Status run(const oci::Descriptor& base_layer, const oci::Descriptor& layer,
             const oci::Digest& diff_id);

 private:
  Status compare_spans(const index::LayerIndex& index, const index::IndexLocation& location,
                       const oci::Descriptor& layer, ByteStream& tar);
  Status compare_whole(const oci::Descriptor& layer, const oci::Digest& diff_id);
  Status take_base(ByteStream& tar, std::span<uint8_t> out);
  void differ(std::string what) {
    if (report_->differences.size() < kMaxDifferences) {
      report_->differences.push_back("layer " + name_ + ": " + std::move(what));
    }
  }

  registry::ImageSource& base_;
  registry::ImageSource& accelerated_;
  CheckReport* report_;
  std::string name_;
  Sha256 whole_;
  index::FileTableBuilder files_;
  tar::StreamReader reader_{files_};
};

Status LayerCheck::take_base(ByteStream& tar, std::span<uint8_t> out) {
  size_t filled = 0;
  while (filled < out.size()) {
    ASSIGN_OR_RETURN(const size_t n, tar.read(out.subspan(filled)));
    if (n == 0) return Error(Code::corrupt_input, "the base's tar ends early");
    filled += n;
  }
  whole_.update(out);
  return reader_.feed(out);
}

Status LayerCheck::compare_spans(const index::LayerIndex& index,
                                 const index::IndexLocation& location, const oci::Descriptor& layer,
                                 ByteStream& tar) {
  ASSIGN_OR_RETURN(auto blob, accelerated_.open_blob(layer));
  Slider compressed(std::move(blob));
  oci::Descriptor index_blob;
  index_blob.digest = location.digest;
  index_blob.size = location.size;
  ASSIGN_OR_RETURN(auto index_stream, accelerated_.open_blob(index_blob));
  Slider payloads(std::move(index_stream));
  codec::SpanStream decoder;
  Bytes decoded;
  Bytes expected;
  for (size_t i = 0; i < index.spans.size(); ++i) {
    const index::Span& span = index.spans[i];
    const uint64_t length = index.span_end(i) - span.uncompressed_begin;
    const uint64_t end = i + 1 < index.spans.size()
                             ? codec::end_byte(index.spans[i + 1].start.compressed_bit)
                             : index.layer_size;
    expected.resize(length);
    RETURN_IF_ERROR(take_base(tar, expected));
    ASSIGN_OR_RETURN(const ByteView bytes,
                     compressed.range(codec::first_byte(span.start.compressed_bit), end));
    const uint64_t payload_begin = location.head_size + span.payload_offset;
    ByteView payload;
    if (span.payload_size > 0) {
      ASSIGN_OR_RETURN(payload, payloads.range(payload_begin, payload_begin + span.payload_size));
    }
    decoded.assign(length, 0);
    Status status =
        decoder.decode({span.start.kind, span.start.compressed_bit, payload}, bytes, decoded);
    if (!status.ok()) {
      differ("span " + std::to_string(i) + " cannot be decoded: " + status.error().message);
      continue;
    }
    if (sha256(decoded) != span.digest) {
      differ("span " + std::to_string(i) + " does not have the digest that the index gives");
    }
    const auto [a, b] = std::mismatch(decoded.begin(), decoded.end(), expected.begin());
    if (a != decoded.end()) {
      const uint64_t at = span.uncompressed_begin + static_cast<uint64_t>(a - decoded.begin());
      differ("bytes differ at tar offset " + std::to_string(at) + " (" + file_at(index, at) + ")");
    }
  }
  return {};
}

// As a client without Pagein decodes it: as one stream.
Status LayerCheck::compare_whole(const oci::Descriptor& layer, const oci::Digest& diff_id) {
  ASSIGN_OR_RETURN(auto blob, accelerated_.open_blob(layer));
  const auto tar = make_plain_tar_stream(std::move(blob));
  Sha256 hash;
  Bytes buffer(256 << 10);
  for (;;) {
    const Result<size_t> n = tar->read(buffer);
    if (!n.ok() && n.error().code == Code::corrupt_input) {
      differ("as one stream: " + n.error().message);
      return {};
    }
    RETURN_IF_ERROR(n);
    if (*n == 0) break;
    hash.update(ByteView(buffer).first(*n));
  }
  if (oci::Digest(hash.finish()) != diff_id) differ("decoded as one stream, it has another diffID");
  return {};
}

Status LayerCheck::run(const oci::Descriptor& base_layer, const oci::Descriptor& layer,
                       const oci::Digest& diff_id) {
  name_ = base_layer.digest.str();
  const auto location = index::parse_index_location(layer);
  if (!location) {
    ++report_->ordinary;
    return layer.digest == base_layer.digest ? Status() : compare_whole(layer, diff_id);
  }
  ++report_->layers;
  const auto blobs = accelerated_.blobs();
  ASSIGN_OR_RETURN(const auto index, read_index_head(*blobs, *location));
  if (index->layer_digest != layer.digest) differ("the index is that of another blob");
  if (index->diff_id != diff_id) differ("the index has another diffID");
  ASSIGN_OR_RETURN(auto base_blob, base_.open_blob(base_layer));
  const auto tar = make_plain_tar_stream(std::move(base_blob));
  RETURN_IF_ERROR(compare_spans(*index, *location, layer, *tar));
  uint8_t extra;
  ASSIGN_OR_RETURN(const size_t more, tar->read({&extra, 1}));
  if (more != 0) differ("the base's tar goes on where the index ends");
  RETURN_IF_ERROR(reader_.finish());
  if (oci::Digest(whole_.finish()) != diff_id) differ("the base's tar does not have its diffID");
  const index::FileTable files = files_.finish();
  if (const std::string what = first_difference(files, index->files); !what.empty()) differ(what);
  if (layer.digest != base_layer.digest) RETURN_IF_ERROR(compare_whole(layer, diff_id));
  report_->files += files.size();
  report_->tar_bytes += index->tar_size;
  return {};
}

const PlatformImage* find_platform(const BaseImage& image, const oci::Platform& platform) {
  for (const PlatformImage& candidate : image.images) {
    if (candidate.platform.normalized() == platform.normalized()) return &candidate;
  }
  return nullptr;
}

}  // namespace

Result<CheckReport> check_image(registry::ImageSource& base, registry::ImageSource& accelerated,
                                const std::function<void(const std::string&)>& progress) {
  ASSIGN_OR_RETURN(const BaseImage base_image, load_any_image(base, {}));
  ASSIGN_OR_RETURN(const BaseImage fast_image, load_any_image(accelerated, {}));
  CheckReport report;
  std::set<oci::Digest> seen;
  for (const PlatformImage& fast : fast_image.images) {
    const PlatformImage* image = find_platform(base_image, fast.platform);
    if (image == nullptr) {
      report.differences.push_back("the base image has no " + fast.platform.str());
      continue;
    }
    ++report.images;
    if (fast.manifest.config.digest != image->manifest.config.digest) {
      report.differences.push_back(fast.platform.str() + ": the config is another blob");
    }
    if (fast.manifest.layers.size() != image->manifest.layers.size()) {
      report.differences.push_back(fast.platform.str() + ": another number of layers");
      continue;
    }
    for (size_t i = 0; i < fast.manifest.layers.size(); ++i) {
      if (!seen.insert(image->manifest.layers[i].digest).second) continue;
      if (progress) progress(image->manifest.layers[i].digest.str());
      LayerCheck check(base, accelerated, &report);
      RETURN_IF_ERROR(
          check.run(image->manifest.layers[i], fast.manifest.layers[i], image->config.diff_ids[i]));
    }
    if (!startup::parse_pack_location(fast.manifest.annotations)) continue;
    if (progress) progress("the startup pack");
    ++report.packs;
    ASSIGN_OR_RETURN(const size_t pieces, check_pack(accelerated, fast, &report.differences));
    report.pack_pieces += pieces;
  }
  return report;
}

}  // namespace pagein::convert
