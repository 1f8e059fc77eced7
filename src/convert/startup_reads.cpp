#include "convert/startup_reads.h"

#include <algorithm>

#include "convert/image_reader.h"
#include "oci/annotations.h"
#include "oci/media_types.h"
#include "startup/entry_point.h"
#include "tree/merge.h"

namespace pagein::convert {
namespace {

Result<startup::Trace> read_trace(registry::ImageSource& source, const oci::Descriptor& referrer) {
  ASSIGN_OR_RETURN(const std::string bytes, source.read_manifest(referrer));
  ASSIGN_OR_RETURN(const oci::Manifest manifest,
                   oci::parse_manifest(as_bytes(bytes), referrer.media_type));
  for (const oci::Descriptor& layer : manifest.layers) {
    if (layer.media_type != oci::media_type::kStartupTrace) continue;
    ASSIGN_OR_RETURN(const std::string text, source.read_blob(layer, startup::kMaxTraceBytes));
    return startup::parse_trace(as_bytes(text));
  }
  return Error(Code::not_found, "no trace in it");
}

// A trace without a known platform may be of any.
bool is_of(const startup::Trace& trace, const oci::Platform& platform) {
  const auto parsed = oci::Platform::parse(trace.platform);
  return !parsed.ok() || oci::match_platform(parsed->normalized(), platform.normalized()) > 0;
}

// Adds the trace's reads; how many there were of this image.
size_t add_trace(const startup::Trace& trace, const std::vector<LayerAccess>& layers,
                 startup::PiecePlanner* planner) {
  size_t known = 0;
  for (const startup::TraceRead& read : trace.reads) {
    const auto layer = std::find_if(layers.begin(), layers.end(), [&](const LayerAccess& access) {
      return access.index->diff_id == read.diff_id;
    });
    if (layer == layers.end()) continue;
    ++known;
    planner->add_tar(static_cast<uint32_t>(layer - layers.begin()), read.offset,
                     read.offset + read.length);
  }
  return known;
}

void add_list(const std::vector<startup::ListedPath>& list, const startup::ImageFiles& files,
              startup::PiecePlanner* planner, StartupReport* report) {
  const tree::Tree& tree = files.tree();
  for (const startup::ListedPath& listed : list) {
    const auto node = files.resolve(listed.path);
    const bool is_directory = node && tree.type(tree.inode(*node)) == index::FileType::directory;
    if (!node || (listed.directory && !is_directory)) {
      report->unknown_paths.push_back(listed.path + (listed.directory ? "/" : ""));
      continue;
    }
    if (!listed.directory) {
      planner->add_file(tree, tree.inode(*node));
      continue;
    }
    for (const tree::NodeId file : files.files_below(*node)) {
      planner->add_file(tree, tree.inode(file));
    }
  }
}

Status add_entry_point(const oci::ImageConfig& config, const startup::ImageFiles& files,
                       const std::vector<LayerAccess>& layers, startup::PiecePlanner* planner) {
  const tree::Tree& tree = files.tree();
  ImageReader reader(tree, layers);
  const startup::OpenFile open =
      [&](tree::NodeId node) -> Result<std::unique_ptr<startup::FileBytes>> {
    return reader.open(node);
  };
  ASSIGN_OR_RETURN(const auto found, startup::entry_point_files(files, config, open));
  for (const startup::StartupFile& file : found) {
    const tree::InodeId inode = tree.inode(file.node);
    for (const auto& part : file.parts) {
      planner->add_file(tree, inode, part.offset, part.offset + part.length);
    }
    if (file.parts.empty()) planner->add_file(tree, inode);
  }
  return {};
}

}  // namespace

std::optional<startup::Trace> find_attached_trace(registry::ImageSource& source,
                                                  const oci::Digest& manifest) {
  auto referrers = source.referrers(manifest, oci::media_type::kStartupTraceArtifact);
  if (!referrers.ok()) return std::nullopt;
  // RFC 3339 times in UTC sort as texts do.
  std::stable_sort(referrers->begin(), referrers->end(), [](const auto& a, const auto& b) {
    return a.annotation(oci::annotation::kCreated) > b.annotation(oci::annotation::kCreated);
  });
  for (const oci::Descriptor& referrer : *referrers) {
    auto trace = read_trace(source, referrer);
    if (trace.ok()) return *std::move(trace);
  }
  return std::nullopt;
}

Result<std::vector<startup::PlannedPiece>> plan_startup(const StartupInputs& inputs,
                                                        StartupReport* report) {
  const StartupOptions& options = *inputs.options;
  const std::vector<LayerAccess>& layers = *inputs.layers;
  std::vector<std::shared_ptr<const index::LayerIndex>> indexes;
  std::vector<tree::Layer> tree_layers;
  for (const LayerAccess& layer : layers) {
    indexes.push_back(layer.index);
    tree_layers.push_back(
        {{layer.index, &layer.index->files}, {layer.index, &layer.index->layout}});
  }
  startup::PiecePlanner planner(std::move(indexes));
  const startup::Trace* trace = options.trace ? &*options.trace : inputs.attached;
  if (trace != nullptr && is_of(*trace, inputs.image->platform)) {
    const size_t known = add_trace(*trace, layers, &planner);
    report->unknown_reads = trace->reads.size() - known;
    if (known > 0) report->origins.push_back(options.trace ? "trace" : "attached trace");
  }
  const bool automatic =
      !options.list && report->origins.empty() && options.automatic == AutoPrefetch::entry_point;
  if (!options.list && !automatic) return planner.pieces();
  ASSIGN_OR_RETURN(const tree::Tree tree, tree::merge(std::move(tree_layers)));
  const startup::ImageFiles files(tree);
  if (options.list) {
    report->origins.push_back("list");
    add_list(*options.list, files, &planner, report);
  } else {
    report->origins.push_back("entry point");
    RETURN_IF_ERROR(add_entry_point(inputs.image->config, files, layers, &planner));
  }
  return planner.pieces();
}

}  // namespace pagein::convert
