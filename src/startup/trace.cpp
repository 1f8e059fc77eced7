#include "startup/trace.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

namespace pagein::startup {
namespace {

using Json = nlohmann::json;

// Takes the document as it is parsed: a tree of a million reads would take
// many times what the reads do. Depth 1 is the document, 3 a read.
class TraceReader : public nlohmann::json_sax<Json> {
 public:
  Result<Trace> finish(bool parsed) {
    if (!parsed) return error_.value_or(corrupt("not valid JSON"));
    if (!is_object_) return corrupt("not an object");
    if (!has_version_) return corrupt("no version");
    return std::move(trace_);
  }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return number_float({}, {}); }
  bool number_float(number_float_t, const string_t&) override {
    if (number_field() != nullptr || is_version()) return fail(corrupt(key_ + " is no number"));
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (is_version()) {
      has_version_ = true;
      if (value != 1) {
        return fail(Error(Code::unsupported, "startup trace of version " + std::to_string(value) +
                                                 "; this program knows 1"));
      }
    }
    if (uint64_t* field = number_field()) *field = value;
    return true;
  }
  bool string(string_t& value) override {
    if (std::string* field = text_field()) *field = value;
    if (oci::Digest* field = digest_field(); field != nullptr && !value.empty()) {
      auto digest = oci::Digest::parse(value);
      if (!digest.ok()) return fail(corrupt(key_ + ": " + digest.error().message));
      *field = *digest;
    }
    return true;
  }
  bool binary(binary_t&) override { return fail(corrupt("not valid JSON")); }
  bool start_object(size_t) override {
    if (depth_ == 0) is_object_ = true;
    if (in_reads_ && depth_ == 2) read_ = {};
    return enter();
  }
  bool end_object() override {
    --depth_;
    if (!in_reads_ || depth_ != 2) return true;
    if (read_.diff_id.empty() || read_.length == 0) return fail(corrupt("a read of nothing"));
    if (read_.offset > UINT64_MAX - read_.length)
      return fail(corrupt("a read of impossible bytes"));
    if (trace_.reads.size() >= kMaxTraceReads) {
      return fail(Error(Code::exhausted,
                        "startup trace: more than " + std::to_string(kMaxTraceReads) + " reads"));
    }
    trace_.reads.push_back(read_);
    return true;
  }
  bool start_array(size_t) override {
    if (depth_ == 1 && is_object_ && key_ == "reads") in_reads_ = true;
    return enter();
  }
  bool end_array() override {
    if (--depth_ == 1) in_reads_ = false;
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1 || (in_reads_ && depth_ == 3)) key_ = name.substr(0, 64);
    return true;
  }
  bool parse_error(size_t at, const std::string&, const nlohmann::detail::exception&) override {
    return fail(corrupt("not valid JSON at byte " + std::to_string(at)));
  }

 private:
  static constexpr size_t kMaxDepth = 32;

  static Error corrupt(const std::string& why) {
    return Error(Code::corrupt_input, "startup trace: " + why);
  }
  bool fail(Error error) {
    if (!error_) error_ = std::move(error);
    return false;
  }
  bool enter() {
    if (++depth_ > kMaxDepth) return fail(corrupt("nested too deeply"));
    return true;
  }

  bool in_document() const { return depth_ == 1 && is_object_; }
  bool in_read() const { return in_reads_ && depth_ == 3; }
  bool is_version() const { return in_document() && key_ == "version"; }

  uint64_t* number_field() {
    if (in_document() && key_ == "ready_ms") return &trace_.ready_ms;
    if (!in_read()) return nullptr;
    if (key_ == "offset") return &read_.offset;
    if (key_ == "length") return &read_.length;
    if (key_ == "ms") return &read_.ms;
    return nullptr;
  }
  std::string* text_field() {
    if (!in_document()) return nullptr;
    if (key_ == "image") return &trace_.image;
    if (key_ == "platform") return &trace_.platform;
    if (key_ == "until") return &trace_.until;
    return nullptr;
  }
  oci::Digest* digest_field() {
    if (in_document() && key_ == "manifest") return &trace_.manifest;
    if (in_read() && key_ == "diff_id") return &read_.diff_id;
    return nullptr;
  }

  Trace trace_;
  TraceRead read_;
  std::string key_;  // of the document or of the read at hand
  size_t depth_ = 0;
  bool is_object_ = false;
  bool in_reads_ = false;
  bool has_version_ = false;
  std::optional<Error> error_;
};

std::string quoted(const std::string& text) {
  return Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Result<Trace> parse_trace(ByteView json) {
  if (json.size() > kMaxTraceBytes) {
    return Error(Code::exhausted, "startup trace: " + std::to_string(json.size()) + " bytes, " +
                                      std::to_string(kMaxTraceBytes) + " are allowed");
  }
  TraceReader reader;
  const bool parsed = Json::sax_parse(json.begin(), json.end(), &reader);
  return reader.finish(parsed);
}

std::string write_trace(const Trace& trace) {
  std::string out = "{\"version\":1,\"image\":" + quoted(trace.image);
  out += ",\"manifest\":\"" + (trace.manifest.empty() ? "" : trace.manifest.str()) + "\"";
  out += ",\"platform\":" + quoted(trace.platform);
  out += ",\"ready_ms\":" + std::to_string(trace.ready_ms);
  out += ",\"until\":" + quoted(trace.until) + ",\"reads\":[";
  const size_t count = std::min(trace.reads.size(), kMaxTraceReads);
  for (size_t i = 0; i < count; ++i) {
    const TraceRead& read = trace.reads[i];
    out += i == 0 ? "\n" : ",\n";
    out += "{\"diff_id\":\"" + read.diff_id.str() + "\",\"offset\":" + std::to_string(read.offset) +
           ",\"length\":" + std::to_string(read.length) + ",\"ms\":" + std::to_string(read.ms) +
           "}";
  }
  out += "]}\n";
  return out;
}

}  // namespace pagein::startup
