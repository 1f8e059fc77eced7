// Descriptors and annotations from and to JSON; for this folder's .cpp files.
#pragma once

#include "oci/json.h"
#include "oci/manifest.h"

namespace pagein::oci {

using OrderedJson = nlohmann::ordered_json;

Result<Descriptor> parse_descriptor(const Json& value, std::string_view what);
// At most `max` of them; absent is empty.
Result<std::vector<Descriptor>> parse_descriptors(const Json& object, const char* key, size_t max);
Result<Annotations> parse_annotations(const Json& object);

OrderedJson descriptor_json(const Descriptor& descriptor);
// Text of a document we made; bytes that are not UTF-8 become U+FFFD.
std::string dump(const OrderedJson& document);

}  // namespace pagein::oci
