// Writes the accelerated image once all indexes are at the destination.
#pragma once

#include <map>

#include "convert/base_image.h"
#include "convert/convert.h"
#include "convert/layer_jobs.h"
#include "index/layer_index_builder.h"

namespace pagein::convert {

struct PublishOptions {
  std::string settings;  // what the indexes, or layers, were made with
  Referrer referrer = Referrer::publish;
};

std::string index_settings(uint64_t spacing, uint32_t max_share);

// What is known before any layer is read.
ConvertReport empty_report(const BaseImage& base, const LayerPlan& plan);
std::vector<oci::Descriptor> layers_of(const std::vector<LayerJob>& jobs);

// Indexes that the destination's tag refers to already and that were made with
// the same settings, by layer digest. Failures count as "none".
std::map<oci::Digest, index::IndexLocation> find_published_indexes(
    registry::ImageDestination& destination, const std::string& settings);

// Pushes an index blob.
Result<index::IndexLocation> put_index(registry::ImageDestination& destination,
                                       const index::EncodedIndex& index);

// Pushes blobs (re-encoded layers and indexes are there), then manifests, then
// the tag; sets report->accelerated and the platforms' manifests.
Status publish(registry::ImageSource& source, registry::ImageDestination& destination,
               const BaseImage& base, const PublishOptions& options, ConvertReport* report);

}  // namespace pagein::convert
