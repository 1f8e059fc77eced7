#include "mount/flat_image.h"

#include <sys/stat.h>

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "mount/gather_read.h"

namespace pagein::mount {
namespace {

using erofs::kBlock;
using erofs::Reader;

constexpr uint64_t kMaxBlocks = UINT32_MAX;

uint64_t blocks_of(uint64_t bytes) { return (bytes + kBlock - 1) / kBlock; }

// Consecutive blocks of the flat image and where they come from.
struct Segment {
  enum class From { metadata, device, zeros } from = From::zeros;
  uint64_t begin = 0;  // bytes, as all here
  uint64_t length = 0;
  uint32_t device = 0;
  uint64_t device_byte = 0;
};

class FlatImage : public DeviceFile {
 public:
  FlatImage(Bytes metadata, std::vector<NodeDevice> devices, std::vector<Segment> segments)
      : metadata_(std::move(metadata)),
        devices_(std::move(devices)),
        segments_(std::move(segments)) {}

  uint64_t size() const override { return segments_.back().begin + segments_.back().length; }

  void read(uint64_t offset, ReadReply reply) override {
    size_t i = find(offset);
    const uint32_t length = reply.length();
    if (offset + length <= segments_[i].begin + segments_[i].length) {
      return read_segment(segments_[i], offset, std::move(reply));
    }
    const auto gather = std::make_shared<GatherRead>(std::move(reply));
    struct Part {
      size_t segment;
      uint64_t offset;
      ReadReply reply;
    };
    std::vector<Part> parts;
    for (uint32_t done = 0; done < length; ++i) {
      const uint64_t at = offset + done;
      const uint64_t rest = segments_[i].begin + segments_[i].length - at;
      const auto take = static_cast<uint32_t>(std::min<uint64_t>(rest, length - done));
      parts.push_back({i, at, gather->part(done, take)});
      done += take;
    }
    for (Part& part : parts) {
      read_segment(segments_[part.segment], part.offset, std::move(part.reply));
    }
  }

 private:
  // The segment with this byte. They cover everything up to size().
  size_t find(uint64_t offset) const {
    const auto it =
        std::upper_bound(segments_.begin(), segments_.end(), offset,
                         [](uint64_t wanted, const Segment& s) { return wanted < s.begin; });
    return static_cast<size_t>(it - segments_.begin()) - 1;
  }

  void read_segment(const Segment& segment, uint64_t offset, ReadReply reply) const {
    const uint64_t within = offset - segment.begin;
    switch (segment.from) {
      case Segment::From::metadata:
        return reply.data(ByteView(metadata_).subspan(within, reply.length()));
      case Segment::From::zeros: return reply.data(Bytes(reply.length()));
      case Segment::From::device: break;
    }
    const NodeDevice& device = devices_[segment.device];
    if (device.file) device.file->read(segment.device_byte + within, std::move(reply));
    else reply.file(device.local->get(), segment.device_byte + within);
  }

  const Bytes metadata_;
  const std::vector<NodeDevice> devices_;
  const std::vector<Segment> segments_;  // ascending, none empty
};

// Confined to one make_flat_image().
class Flattener {
 public:
  explicit Flattener(const MetadataFile& metadata)
      : reader_(metadata.reader()), bytes_(metadata.bytes().begin(), metadata.bytes().end()) {}

  Status run() {
    add({Segment::From::metadata, 0, bytes_.size(), 0, 0});
    for (uint32_t i = 0; i < reader_.devices().size(); ++i) {
      bases_.push_back(end_);
      add({Segment::From::device, 0, reader_.devices()[i].blocks * kBlock, i, 0});
    }
    std::vector<uint64_t> directories = {reader_.super().root_nid};
    std::unordered_set<uint64_t> seen = {directories.front()};
    for (size_t next = 0; next < directories.size(); ++next) {
      ASSIGN_OR_RETURN(const Reader::Inode directory, reader_.inode(directories[next]));
      ASSIGN_OR_RETURN(const auto entries, reader_.list(directory));
      for (const Reader::Entry& entry : entries) {
        if (!seen.insert(entry.nid).second) continue;
        ASSIGN_OR_RETURN(const Reader::Inode inode, reader_.inode(entry.nid));
        if (S_ISDIR(inode.mode)) directories.push_back(entry.nid);
        else if (S_ISREG(inode.mode)) RETURN_IF_ERROR(flatten(inode));
      }
    }
    if (end_ / kBlock > kMaxBlocks) {
      return Error(Code::unsupported, "the image is too large for one device (16 TiB)");
    }
    finish_super_block();
    return {};
  }

  Bytes take_bytes() { return std::move(bytes_); }
  std::vector<Segment> take_segments() { return std::move(segments_); }

 private:
  void add(Segment segment) {
    if (segment.length == 0) return;
    segment.begin = end_;
    end_ += segment.length;
    segments_.push_back(segment);
  }

  Status flatten(const Reader::Inode& inode) {
    uint64_t begin = 0;
    if (inode.size > 0) {
      ASSIGN_OR_RETURN(const Reader::Run first, reader_.run_at(inode, 0, inode.size));
      if (!first.hole && first.length == inode.size) {
        begin = bases_[first.device] + first.device_byte;
      } else {
        begin = end_;
        RETURN_IF_ERROR(lay_out(inode));
      }
    }
    erofs::InodeExtended disk;
    std::memcpy(&disk, bytes_.data() + inode.offset, sizeof disk);
    constexpr uint16_t kLayoutBits = 7 << 1;
    disk.format = static_cast<uint16_t>((disk.format & ~kLayoutBits) |
                                        static_cast<unsigned>(erofs::Layout::flat_plain) << 1);
    disk.u = static_cast<uint32_t>(begin / kBlock);
    std::memcpy(bytes_.data() + inode.offset, &disk, sizeof disk);
    return {};
  }

  // A file with holes gets blocks of its own.
  Status lay_out(const Reader::Inode& inode) {
    for (uint64_t offset = 0; offset < inode.size;) {
      ASSIGN_OR_RETURN(const Reader::Run run, reader_.run_at(inode, offset, inode.size - offset));
      offset += run.length;
      add({run.hole ? Segment::From::zeros : Segment::From::device, 0,
           blocks_of(run.length) * kBlock, run.device, run.device_byte});
      if (end_ / kBlock > kMaxBlocks) {
        return Error(Code::unsupported, "the image is too large for one device (16 TiB)");
      }
    }
    return {};
  }

  void finish_super_block() {
    uint8_t* at = bytes_.data() + erofs::kSuperOffset;
    erofs::SuperBlock super = reader_.super();
    super.feature_incompat = 0;
    super.extra_devices = 0;
    super.device_table_slot = 0;
    super.blocks = static_cast<uint32_t>(end_ / kBlock);
    super.checksum = 0;
    std::memcpy(at, &super, sizeof super);
    super.checksum = erofs::crc32c(~0u, at, kBlock - erofs::kSuperOffset);
    std::memcpy(at, &super, sizeof super);
  }

  const Reader& reader_;
  Bytes bytes_;
  uint64_t end_ = 0;
  std::vector<uint64_t> bases_;  // of the devices
  std::vector<Segment> segments_;
};

}  // namespace

Result<std::shared_ptr<DeviceFile>> make_flat_image(std::shared_ptr<const MetadataFile> metadata,
                                                    std::vector<NodeDevice> devices) {
  Flattener flattener(*metadata);
  RETURN_IF_ERROR(flattener.run());
  return std::make_shared<FlatImage>(flattener.take_bytes(), std::move(devices),
                                     flattener.take_segments());
}

}  // namespace pagein::mount
