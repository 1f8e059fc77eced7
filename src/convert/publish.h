// Writes the accelerated image once all indexes are at the destination.
#pragma once

#include <map>

#include "convert/base_image.h"
#include "convert/convert.h"

namespace pagein::convert {

// Indexes that the destination's tag refers to already and that were made with
// the same settings, by layer digest. Failures count as "none".
std::map<oci::Digest, index::IndexLocation> find_published_indexes(
    registry::ImageDestination& destination, uint64_t spacing);

// Pushes blobs, then manifests, then the tag; sets report->accelerated and
// the platforms' manifests.
Status publish(registry::ImageSource& source, registry::ImageDestination& destination,
               const BaseImage& base, const ConvertOptions& options, ConvertReport* report);

}  // namespace pagein::convert
