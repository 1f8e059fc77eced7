#include "oci/media_types.h"

namespace pagein::oci {

LayerType parse_layer_type(std::string_view type) {
  using enum LayerCompression;
  using namespace media_type;
  struct Known {
    std::string_view type;
    bool foreign;
    LayerCompression compression;
  };
  static constexpr Known kKnown[] = {
      {kOciLayer, false, none},           {kOciLayerGzip, false, gzip},
      {kOciLayerZstd, false, zstd},       {kOciLayerForeign, true, none},
      {kOciLayerForeignGzip, true, gzip}, {kOciLayerForeignZstd, true, zstd},
      {kDockerLayer, false, none},        {kDockerLayerGzip, false, gzip},
      {kDockerLayerZstd, false, zstd},    {kDockerLayerForeign, true, gzip},
  };
  for (const Known& known : kKnown) {
    if (known.type == type) return {true, known.foreign, known.compression};
  }
  return {};
}

std::string_view layer_media_type(LayerCompression compression) {
  switch (compression) {
    case LayerCompression::none: return media_type::kOciLayer;
    case LayerCompression::gzip: return media_type::kOciLayerGzip;
    case LayerCompression::zstd: return media_type::kOciLayerZstd;
  }
  return {};
}

std::string_view to_oci_media_type(std::string_view type) {
  using namespace media_type;
  if (type == kDockerManifest) return kOciManifest;
  if (type == kDockerManifestList) return kOciIndex;
  if (type == kDockerConfig) return kOciConfig;
  if (type == kDockerLayer) return kOciLayer;
  if (type == kDockerLayerGzip) return kOciLayerGzip;
  if (type == kDockerLayerZstd) return kOciLayerZstd;
  if (type == kDockerLayerForeign) return kOciLayerForeignGzip;
  return type;
}

bool is_manifest(std::string_view type) {
  return type == media_type::kOciManifest || type == media_type::kDockerManifest;
}

bool is_index(std::string_view type) {
  return type == media_type::kOciIndex || type == media_type::kDockerManifestList;
}

}  // namespace pagein::oci
