// Images made in memory, as a registry::ImageSource. Tests only.
#pragma once

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "oci/manifest.h"
#include "oci/media_types.h"
#include "registry/image_store.h"

namespace pagein::containerd {

// A tar (POSIX ustar) of these files: name -> content.
inline std::string make_tar(const std::map<std::string, std::string>& files) {
  std::string tar;
  for (const auto& [name, content] : files) {
    std::array<char, 512> header{};
    auto put = [&](size_t at, const std::string& text) {
      std::memcpy(header.data() + at, text.data(), text.size());
    };
    auto octal = [](uint64_t value, int digits) {
      std::string text(static_cast<size_t>(digits), '0');
      for (int i = digits - 1; i >= 0; --i, value >>= 3)
        text[static_cast<size_t>(i)] = static_cast<char>('0' + (value & 7));
      return text;
    };
    put(0, name);
    put(100, "0000644");
    put(108, "0000000");
    put(116, "0000000");
    put(124, octal(content.size(), 11));
    put(136, octal(1'700'000'000, 11));
    put(148, "        ");
    put(156, "0");
    put(257, std::string("ustar\0"
                         "00",
                         8));
    uint64_t sum = 0;
    for (const char c : header) sum += static_cast<unsigned char>(c);
    put(148, octal(sum, 6) + std::string("\0 ", 2));
    tar.append(header.data(), header.size());
    tar += content;
    tar.append((512 - content.size() % 512) % 512, '\0');
  }
  tar.append(1024, '\0');
  return tar;
}

// Ranged reads of the blobs of a FakeSource, answered at once.
class MemoryBlobs final : public registry::BlobSource {
 public:
  explicit MemoryBlobs(const std::map<oci::Digest, std::string>& blobs) : blobs_(blobs) {}
  registry::ReadId read(const registry::BlobRead& read,
                        std::shared_ptr<registry::BlobSink> sink) override {
    offsets.push_back(read.offset);
    const std::string_view bytes = blobs_.at(read.digest);
    sink->on_data(as_bytes(bytes.substr(read.offset, read.length)));
    sink->on_done({});
    return offsets.size();
  }
  void cancel(registry::ReadId) override {}
  void pause(registry::ReadId) override {}
  void resume(registry::ReadId) override {}
  std::string describe() const override { return "memory"; }

  std::vector<uint64_t> offsets;

 private:
  const std::map<oci::Digest, std::string>& blobs_;
};

class FakeSource final : public registry::ImageSource {
 public:
  // Stores the bytes and describes them.
  oci::Descriptor add(std::string bytes, std::string_view media_type) {
    oci::Descriptor descriptor;
    descriptor.media_type = media_type;
    descriptor.digest = oci::Digest::of(as_bytes(bytes));
    descriptor.size = bytes.size();
    blobs_by_digest[descriptor.digest] = std::move(bytes);
    return descriptor;
  }

  struct ImageParts {
    oci::Descriptor index, manifest, config;
    std::vector<oci::Descriptor> layers;
  };
  // An index with one image of these layers (uncompressed tars), for this
  // machine, and an artifact beside it.
  ImageParts add_image(const std::vector<std::map<std::string, std::string>>& layers,
                       const std::function<void(size_t, oci::Descriptor&)>& edit = {}) {
    ImageParts parts;
    std::string diff_ids;
    for (size_t i = 0; i < layers.size(); ++i) {
      parts.layers.push_back(add(make_tar(layers[i]), oci::media_type::kOciLayer));
      diff_ids += (i == 0 ? "\"" : ",\"") + parts.layers.back().digest.str() + "\"";
      if (edit) edit(i, parts.layers.back());
    }
    const oci::Platform host = oci::Platform::host();
    parts.config = add("{\"architecture\":\"" + host.architecture + "\",\"os\":\"" + host.os +
                           "\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[" +
                           diff_ids + "]}}",
                       oci::media_type::kOciConfig);
    oci::Manifest manifest;
    manifest.config = parts.config;
    manifest.layers = parts.layers;
    parts.manifest = add(oci::serialize(manifest), manifest.media_type);
    oci::ImageIndex index;
    index.manifests = {parts.manifest, add("{}", oci::media_type::kOciManifest)};
    index.manifests[0].platform = host;
    index.manifests[1].platform = oci::Platform{"unknown", "unknown", "", "", {}};
    parts.index = add(oci::serialize(index), index.media_type);
    return parts;
  }

  Result<oci::Descriptor> resolve() override { return Error(Code::unsupported, "fake"); }
  Result<oci::Descriptor> resolve(const std::string&) override {
    return Error(Code::unsupported, "fake");
  }
  Result<std::string> read_manifest(const oci::Descriptor& descriptor) override {
    return read_blob(descriptor, oci::kMaxManifestSize);
  }
  Result<std::string> read_blob(const oci::Descriptor& descriptor, uint64_t) override {
    const auto it = blobs_by_digest.find(descriptor.digest);
    if (it == blobs_by_digest.end()) return Error(Code::not_found, "no " + descriptor.digest.str());
    return it->second;
  }
  Result<std::unique_ptr<ByteStream>> open_blob(const oci::Descriptor& descriptor) override {
    ++opened;
    ASSIGN_OR_RETURN(std::string bytes, read_blob(descriptor, 0));
    return std::make_unique<Stream>(*this, std::move(bytes));
  }
  std::shared_ptr<registry::BlobSource> blobs() override { return ranged; }
  Result<std::vector<oci::Descriptor>> referrers(const oci::Digest&, std::string_view) override {
    return std::vector<oci::Descriptor>();
  }
  std::string describe() const override { return "fake"; }

  std::map<oci::Digest, std::string> blobs_by_digest;
  const std::shared_ptr<MemoryBlobs> ranged = std::make_shared<MemoryBlobs>(blobs_by_digest);
  std::atomic<int> opened = 0;                  // open_blob calls
  std::function<Status(uint64_t)> before_read;  // with the bytes already read

 private:
  class Stream final : public ByteStream {
   public:
    Stream(FakeSource& source, std::string bytes) : source_(source), bytes_(std::move(bytes)) {}
    Result<size_t> read(std::span<uint8_t> out) override {
      if (source_.before_read) RETURN_IF_ERROR(source_.before_read(at_));
      const size_t count = std::min({out.size(), bytes_.size() - at_, size_t{100'000}});
      std::memcpy(out.data(), bytes_.data() + at_, count);
      at_ += count;
      return count;
    }

   private:
    FakeSource& source_;
    const std::string bytes_;
    size_t at_ = 0;
  };
};

}  // namespace pagein::containerd
