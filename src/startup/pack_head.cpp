#include "startup/pack_head.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "base/byte_reader.h"
#include "startup/pack_format.h"

namespace pagein::startup {
namespace {

constexpr std::string_view kWhat = "startup pack";

uint64_t head_size_of(uint64_t layers, uint64_t pieces) {
  return sizeof(FixedPackHeader) + layers * sizeof(Sha256Bytes) + pieces * sizeof(PieceRow);
}

// What breaks H1 to H4; "" if nothing does.
std::string broken_layers(const PackHead& head) {
  if (head.diff_ids.size() > kMaxPackLayers) return "too many layers";
  const std::set<oci::Digest> distinct(head.diff_ids.begin(), head.diff_ids.end());
  if (distinct.size() != head.diff_ids.size()) return "a layer is there twice";
  uint32_t named = 0;
  for (const Piece& piece : head.pieces) {
    if (piece.layer > named || piece.layer >= head.diff_ids.size()) {
      return "a piece names a layer out of order";
    }
    if (piece.layer == named) ++named;
  }
  if (named != head.diff_ids.size()) return "a layer without pieces";
  return {};
}

std::string broken_pieces(const PackHead& head) {
  if (head.pieces.size() > kMaxPackPieces) return "too many pieces";
  for (const Piece& piece : head.pieces) {
    if (piece.span_count == 0 || piece.first_span > kMaxSpanNumber ||
        piece.span_count > kMaxSpanNumber - piece.first_span) {
      return "a piece of impossible spans";
    }
    if (piece.stored_size > kMaxStoredPiece) return "a piece beyond the limit";
  }
  if (head.blob_size() > kMaxPackBytes) return "larger than allowed";
  std::vector<uint32_t> order(head.pieces.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
    const Piece& x = head.pieces[a];
    const Piece& y = head.pieces[b];
    return std::pair(x.layer, x.first_span) < std::pair(y.layer, y.first_span);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    const Piece& before = head.pieces[order[i - 1]];
    const Piece& piece = head.pieces[order[i]];
    if (piece.layer == before.layer && piece.first_span < before.first_span + before.span_count) {
      return "a span is in two pieces";
    }
  }
  return {};
}

Status check(const PackHead& head, Code code) {
  std::string why = broken_layers(head);
  if (why.empty()) why = broken_pieces(head);
  if (why.empty()) return {};
  return Error(code, std::string(kWhat) + ": " + why);
}

Error corrupt(std::string_view why) {
  return Error(Code::corrupt_input, std::string(kWhat) + ": " + std::string(why));
}

}  // namespace

uint64_t PackHead::blob_size() const {
  uint64_t size = head_size;
  for (const Piece& piece : pieces) size += piece.stored_size;
  return size;
}

Result<PackHead> parse_pack_head(ByteView bytes) {
  ByteReader reader(bytes, kWhat);
  ASSIGN_OR_RETURN(const FixedPackHeader header, reader.structure<FixedPackHeader>());
  if (as_text(header.magic) != kPackMagic) return corrupt("not one");
  if (header.version != kPackVersion) {
    return Error(Code::unsupported, std::string(kWhat) + " of version " +
                                        std::to_string(header.version) + "; this program knows 1");
  }
  if (header.reserved != 0) return Error(Code::unsupported, std::string(kWhat) + ": newer fields");
  if (header.layer_count > kMaxPackLayers || header.piece_count > kMaxPackPieces) {
    return corrupt("too many layers or pieces");
  }
  PackHead head;
  head.head_size = header.head_size;
  if (head.head_size != head_size_of(header.layer_count, header.piece_count) ||
      head.head_size != bytes.size()) {
    return corrupt("its head has another size than its tables");
  }
  head.diff_ids.reserve(header.layer_count);
  for (uint32_t i = 0; i < header.layer_count; ++i) {
    ASSIGN_OR_RETURN(const Sha256Bytes digest, reader.structure<Sha256Bytes>());
    head.diff_ids.emplace_back(digest);
  }
  head.pieces.reserve(header.piece_count);
  for (uint32_t i = 0; i < header.piece_count; ++i) {
    ASSIGN_OR_RETURN(const PieceRow row, reader.structure<PieceRow>());
    head.pieces.push_back({row.layer, row.first_span, row.span_count, row.stored_size});
  }
  RETURN_IF_ERROR(check(head, Code::corrupt_input));
  return head;
}

Result<Bytes> write_pack_head(PackHead* head) {
  head->head_size = head_size_of(head->diff_ids.size(), head->pieces.size());
  RETURN_IF_ERROR(check(*head, Code::invalid_argument));
  FixedPackHeader header{};
  std::copy(kPackMagic.begin(), kPackMagic.end(), header.magic.begin());
  header.version = kPackVersion;
  header.layer_count = static_cast<uint32_t>(head->diff_ids.size());
  header.piece_count = static_cast<uint32_t>(head->pieces.size());
  header.head_size = head->head_size;
  ByteWriter out;
  out.structure(header);
  for (const oci::Digest& diff_id : head->diff_ids) out.structure(diff_id.bytes());
  for (const Piece& piece : head->pieces) {
    out.structure(PieceRow{piece.layer, piece.first_span, piece.span_count, piece.stored_size});
  }
  return out.take();
}

}  // namespace pagein::startup
