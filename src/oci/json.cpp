#include "oci/json.h"

namespace pagein::oci {

namespace {

Error broken(std::string_view what, std::string_view why) {
  return Error(Code::corrupt_input, std::string(what) + ": " + std::string(why));
}

// One pass over the text, before anything is built from it. Counts brackets
// and commas outside strings; whether they match is the parser's business.
Status check_shape(std::string_view text, std::string_view what, const JsonLimits& limits) {
  size_t depth = 0;
  size_t values = 1;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    switch (c) {
      case '"': in_string = true; break;
      case '[':
      case '{':
        if (++depth > limits.max_depth) {
          return broken(what, "nested deeper than " + std::to_string(limits.max_depth));
        }
        ++values;
        break;
      case ']':
      case '}':
        if (depth > 0) --depth;
        break;
      case ',': ++values; break;
      default: break;
    }
  }
  if (values > limits.max_values) {
    return broken(what, "more than " + std::to_string(limits.max_values) + " values");
  }
  return {};
}

Error wrong_type(const char* key, std::string_view wanted) {
  return Error(Code::corrupt_input, "\"" + std::string(key) + "\" is not " + std::string(wanted));
}

}  // namespace

Result<Json> parse_json(ByteView text, std::string_view what, const JsonLimits& limits) {
  if (text.size() > limits.max_bytes) {
    return Error(Code::exhausted, std::string(what) + " has " + std::to_string(text.size()) +
                                      " bytes, more than the " + std::to_string(limits.max_bytes) +
                                      " allowed");
  }
  RETURN_IF_ERROR(check_shape(as_text(text), what, limits));
  Json value = Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return broken(what, "not valid JSON");
  return value;
}

const Json* json_find(const Json& object, const char* key) {
  if (!object.is_object()) return nullptr;
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Result<std::string> json_string(const Json& object, const char* key) {
  const Json* value = json_find(object, key);
  if (value == nullptr) return std::string();
  if (!value->is_string()) return wrong_type(key, "a string");
  return value->get_ref<const std::string&>();
}

Result<std::optional<uint64_t>> json_unsigned(const Json& object, const char* key) {
  const Json* value = json_find(object, key);
  if (value == nullptr) return std::optional<uint64_t>();
  if (!value->is_number_unsigned()) return wrong_type(key, "a non-negative whole number");
  return std::optional<uint64_t>(value->get<uint64_t>());
}

Result<std::vector<std::string>> json_strings(const Json& object, const char* key) {
  std::vector<std::string> out;
  const Json* value = json_find(object, key);
  if (value == nullptr) return out;
  if (!value->is_array()) return wrong_type(key, "an array of strings");
  out.reserve(value->size());
  for (const Json& element : *value) {
    if (!element.is_string()) return wrong_type(key, "an array of strings");
    out.push_back(element.get_ref<const std::string&>());
  }
  return out;
}

Result<std::map<std::string, std::string>> json_string_map(const Json& object, const char* key) {
  std::map<std::string, std::string> out;
  const Json* value = json_find(object, key);
  if (value == nullptr) return out;
  if (!value->is_object()) return wrong_type(key, "an object of strings");
  for (const auto& [name, element] : value->items()) {
    if (!element.is_string()) return wrong_type(key, "an object of strings");
    out.emplace(name, element.get_ref<const std::string&>());
  }
  return out;
}

Result<std::vector<std::string>> json_names(const Json& object, const char* key) {
  std::vector<std::string> out;
  const Json* value = json_find(object, key);
  if (value == nullptr) return out;
  if (!value->is_object()) return wrong_type(key, "an object");
  for (const auto& [name, element] : value->items()) out.push_back(name);
  return out;
}

}  // namespace pagein::oci
