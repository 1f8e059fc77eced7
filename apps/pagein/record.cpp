// pagein record: starts an image and writes down what that reads.
#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "apps/pagein/commands.h"
#include "apps/pagein/record_bundle.h"
#include "apps/pagein/record_run.h"
#include "control/client.h"
#include "oci/annotations.h"
#include "oci/image_config.h"
#include "oci/media_types.h"
#include "registry/image_store.h"
#include "startup/trace.h"

namespace pagein::cli {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

struct Flags {
  std::string location;
  std::string socket = "/run/pagein/control.sock";
  std::string output = "-";
  std::string attach;
  std::string until;
  uint64_t timeout = 300;
  std::string net = "host";
  bool read_only = false;
  RunOptions run;
  RegistryFlags registry;
};

std::vector<std::string> texts(const json& object, const char* key) {
  std::vector<std::string> out;
  const json list = object.value(key, json::array());
  for (const json& item : list) {
    if (item.is_string()) out.push_back(item.get<std::string>());
  }
  return out;
}

// A recording of pageind's; ended when this goes.
class Recording {
 public:
  static Result<std::unique_ptr<Recording>> start(const Flags& flags) {
    const json request = {{"image", flags.location}};
    ASSIGN_OR_RETURN(
        const std::string body,
        control::call_post(flags.socket, "/v1/record",
                           request.dump(-1, ' ', false, json::error_handler_t::replace)));
    json answer = json::parse(body, nullptr, /*allow_exceptions=*/false);
    if (!answer.is_object() || answer.value("id", "").empty()) {
      return Error(Code::internal, "pageind's answer is no recording");
    }
    return std::unique_ptr<Recording>(new Recording(flags.socket, std::move(answer)));
  }
  ~Recording() {
    const json request = {{"id", id()}};
    const auto ended = control::call_post(socket_, "/v1/record/end", request.dump());
    if (!ended.ok() && ended.error().code != Code::not_found)
      std::fprintf(stderr, "pagein: the recording's mount stays for a while: %s\n",
                   ended.error().message.c_str());
  }

  std::string text(const char* key) const { return answer_.value(key, ""); }
  ImageProcess process() const {
    return {texts(answer_, "entrypoint"), texts(answer_, "cmd"), texts(answer_, "env"),
            text("working_dir"), text("user")};
  }
  Status keep() const {
    const auto kept = control::call_get(socket_, "/v1/record/" + id());
    return kept.ok() ? Status() : Status(kept.error());
  }
  Result<startup::Trace> reads() const {
    ASSIGN_OR_RETURN(const std::string body,
                     control::call_get(socket_, "/v1/record/" + id() + "/reads"));
    return startup::parse_trace(as_bytes(body));
  }

 private:
  Recording(std::string socket, json answer)
      : socket_(std::move(socket)), answer_(std::move(answer)) {}
  std::string id() const { return answer_.value("id", ""); }

  const std::string socket_;
  const json answer_;
};

// The base image that a trace is attached to.
struct Base {
  std::shared_ptr<registry::ImageDestination> destination;
  oci::Descriptor manifest;  // of this platform
  std::vector<oci::Digest> diff_ids;
};

Result<Base> find_base(const Flags& flags) {
  ASSIGN_OR_RETURN(const auto session, flags.registry.open({flags.attach}));
  ASSIGN_OR_RETURN(const auto location, registry::parse_location(flags.attach));
  Base base;
  ASSIGN_OR_RETURN(base.destination, registry::open_destination(location, session));
  ASSIGN_OR_RETURN(const auto source, registry::open_source(location, session));
  ASSIGN_OR_RETURN(base.manifest, source->resolve());
  ASSIGN_OR_RETURN(std::string bytes, source->read_manifest(base.manifest));
  if (oci::is_index(base.manifest.media_type)) {
    ASSIGN_OR_RETURN(const oci::ImageIndex index,
                     oci::parse_index(as_bytes(bytes), base.manifest.media_type));
    const oci::Descriptor* chosen = oci::select_platform(index, oci::Platform::host());
    if (chosen == nullptr) {
      return Error(Code::not_found,
                   flags.attach + " has no image for " + oci::Platform::host().str());
    }
    base.manifest = *chosen;
    ASSIGN_OR_RETURN(bytes, source->read_manifest(base.manifest));
  }
  ASSIGN_OR_RETURN(const oci::Manifest manifest,
                   oci::parse_manifest(as_bytes(bytes), base.manifest.media_type));
  ASSIGN_OR_RETURN(const std::string config,
                   source->read_blob(manifest.config, oci::kMaxConfigSize));
  ASSIGN_OR_RETURN(const oci::ImageConfig parsed, oci::parse_image_config(as_bytes(config)));
  base.diff_ids = parsed.diff_ids;
  return base;
}

std::string now_utc() {
  const time_t now = ::time(nullptr);
  tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// As a referrer of the base's manifest, where the next conversion looks for it.
Status attach(const Base& base, const std::string& trace) {
  oci::Manifest artifact;
  artifact.artifact_type = oci::media_type::kStartupTraceArtifact;
  ASSIGN_OR_RETURN(artifact.config,
                   registry::put_blob(*base.destination, oci::kEmptyBlob, oci::media_type::kEmpty));
  ASSIGN_OR_RETURN(const oci::Descriptor blob,
                   registry::put_blob(*base.destination, trace, oci::media_type::kStartupTrace));
  artifact.layers.push_back(blob);
  oci::Descriptor subject;
  subject.media_type = base.manifest.media_type;
  subject.digest = base.manifest.digest;
  subject.size = base.manifest.size;
  artifact.subject = subject;
  artifact.annotations[std::string(oci::annotation::kCreated)] = now_utc();
  const auto put =
      base.destination->put_referrer(oci::serialize(artifact), oci::media_type::kOciManifest);
  return put.ok() ? Status() : Status(put.error());
}

// What the container read, from its start on.
Result<startup::Trace> run_recording(const Flags& flags, const Until& until,
                                     const std::optional<Base>& base) {
  ASSIGN_OR_RETURN(const auto recording, Recording::start(flags));
  const auto mounted = Clock::now();
  ASSIGN_OR_RETURN(const RecordBundle bundle,
                   RecordBundle::make(recording->text("tree"), recording->process(), flags.run));
  RecordRun run(bundle);
  RecordRunOptions options;
  options.until = until;
  options.timeout = std::chrono::seconds(flags.timeout);
  options.on_tick = [&] { return recording->keep(); };
  const auto before =
      std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - mounted).count();
  ASSIGN_OR_RETURN(const std::chrono::milliseconds ready, run.until_ready(options));
  // Now, as what it reads while it is being killed is no part of its start.
  ASSIGN_OR_RETURN(startup::Trace trace, recording->reads());
  for (startup::TraceRead& read : trace.reads) {
    read.ms -= std::min<uint64_t>(read.ms, static_cast<uint64_t>(before));
    if (!base) continue;
    if (std::find(base->diff_ids.begin(), base->diff_ids.end(), read.diff_id) ==
        base->diff_ids.end()) {
      return Error(Code::failed_precondition, flags.attach + " is not what " + flags.location +
                                                  " was made of: it has no layer with diffID " +
                                                  read.diff_id.str());
    }
  }
  trace.image = flags.location;
  ASSIGN_OR_RETURN(trace.manifest, oci::Digest::parse(recording->text("manifest")));
  trace.platform = recording->text("platform");
  trace.ready_ms = static_cast<uint64_t>(ready.count());
  trace.until = until.text;
  return trace;
}

Status record(const Flags& flags) {
  ASSIGN_OR_RETURN(const Until until, Until::parse(flags.until));
  if (::geteuid() != 0) {
    return Error(Code::failed_precondition,
                 "pagein record mounts and runs an image: it needs root");
  }
  RETURN_IF_ERROR(check_runc());
  std::optional<Base> base;
  if (!flags.attach.empty()) {
    ASSIGN_OR_RETURN(base, find_base(flags));
  }
  ASSIGN_OR_RETURN(const startup::Trace trace, run_recording(flags, until, base));
  const std::string text = startup::write_trace(trace) + "\n";
  uint64_t bytes = 0;
  for (const startup::TraceRead& read : trace.reads) bytes += read.length;
  if (flags.output != "-") {
    RETURN_IF_ERROR(replace_file(flags.output, as_bytes(text), 0644));
  } else if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
             std::fflush(stdout) != 0) {
    return errno_error(errno, "write the trace");
  }
  if (base) {
    const Status attached = attach(*base, text);
    if (!attached.ok()) return attached.error().with_context("attach the trace");
  }
  std::fprintf(stderr, "pagein: ready after %.2f s; %zu reads of %s%s\n",
               static_cast<double>(trace.ready_ms) / 1000, trace.reads.size(),
               human_bytes(bytes).c_str(),
               base ? ("; attached to " + base->manifest.digest.str()).c_str() : "");
  return {};
}

int run_record(const Flags& flags) {
  // Taken by RecordRun; before there are threads, so that all block them.
  sigset_t stops;
  sigemptyset(&stops);
  sigaddset(&stops, SIGINT);
  sigaddset(&stops, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &stops, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  const Status status = record(flags);
  if (status.ok()) return kOk;
  const int code = fail(status.error().with_context("record " + flags.location));
  return status.error().code == Code::invalid_argument ? kUsage : code;
}

}  // namespace

void add_record(CLI::App& app, Run* run) {
  CLI::App* command = app.add_subcommand(
      "record", "Run an accelerated image until it is ready, and write down what its start reads");
  auto flags = std::make_shared<Flags>();
  command->add_option("LOCATION", flags->location, "The accelerated image")->required();
  command->add_option("COMMAND", flags->run.command,
                      "Arguments instead of the image's, behind its entry point; after --");
  command->add_option("--until", flags->until,
                      "When the start is over: http:URL, log:REGEX, seconds:N or exit (default: "
                      "exit, or after 30 seconds)");
  command->add_option("--timeout", flags->timeout, "Seconds after which it is given up")
      ->check(CLI::Range(1, 86400))
      ->capture_default_str();
  command->add_option("-o,--output", flags->output, "File for the trace; -: standard output")
      ->capture_default_str();
  command->add_option("--attach", flags->attach,
                      "Publish the trace as a referrer of this base image, where conversions of "
                      "it find it");
  command->add_option("-e,--env", flags->run.env, "NAME=value, over the image's (repeatable)")
      ->allow_extra_args(false);
  command
      ->add_option("--volume", flags->run.volumes, "/HOST/PATH:/CONTAINER/PATH[:ro] (repeatable)")
      ->allow_extra_args(false);
  command->add_option("--net", flags->net, "host: the host's network; none: only loopback")
      ->check(CLI::IsMember({"host", "none"}))
      ->capture_default_str();
  command->add_option("-u,--user", flags->run.user, "USER[:GROUP] instead of the image's");
  command->add_flag("--read-only", flags->read_only, "The container cannot write to its files");
  command->add_option("--socket", flags->socket, "pageind's control socket")->capture_default_str();
  flags->registry.add_to(command);
  command->footer(std::string(kLocationHelp) +
                  "\nNeeds root, runc and a running pageind. The container's output goes to "
                  "standard error.");
  command->callback([flags, run] {
    flags->run.net = flags->net == "none" ? RunOptions::Net::none : RunOptions::Net::host;
    flags->run.root = flags->read_only ? RunOptions::Root::read_only : RunOptions::Root::writable;
    flags->location = daemon_location(flags->location);
    *run = [flags] { return run_record(*flags); };
  });
}

}  // namespace pagein::cli
