// pagein: everything by hand. The commands are in files of their own.

#include <cstdio>

#include "apps/pagein/commands.h"
#include "base/log.h"
#include "oci/reference.h"
#include "registry/credential_sources.h"
#include "registry/image_store.h"

namespace pagein::cli {

void RegistryFlags::add_to(CLI::App* command) {
  command->add_flag("--plain-http", plain_http,
                    "Reach the registries named here by http (loopback always is)");
  command->add_option("--ca-file", ca_file,
                      "PEM file with the CAs to trust for registries (default: the system's)");
  command->add_option(
      "--docker-config", docker_config,
      "Docker's config.json with credentials (default: $DOCKER_CONFIG or ~/.docker)");
  CLI::Option* plugins =
      command->add_option("--credential-provider-config", plugin_config,
                          "kubelet's CredentialProviderConfig: plugins that give credentials");
  CLI::Option* folder = command->add_option("--credential-provider-bin-dir", plugin_bin_dir,
                                            "Folder with those plugins");
  plugins->needs(folder);
  folder->needs(plugins);
  command->add_option("--hosts-dir", hosts_dir,
                      "containerd's folder of HOST/hosts.toml: mirrors, CAs, client certificates "
                      "(default: /etc/containerd/certs.d; \"\": none)");
}

Result<std::shared_ptr<registry::Session>> RegistryFlags::open(
    const std::vector<std::string>& locations) const {
  registry::SessionOptions options;
  options.hosts_dir = hosts_dir;
  for (const std::string& text : locations) {
    ASSIGN_OR_RETURN(const registry::Location location, registry::parse_location(text));
    if (plain_http && location.kind == registry::Location::Kind::registry) {
      options.plain_http.insert(location.reference.host());
    }
  }
  if (!ca_file.empty()) {
    auto tls = std::make_shared<net::TlsOptions>();
    tls->ca_file = ca_file;
    options.tls = std::move(tls);
  }
  options.credentials = registry::make_credentials({.handed_over = nullptr,
                                                    .docker_config = docker_config,
                                                    .files = {},
                                                    .plugin_config = plugin_config,
                                                    .plugin_bin_dir = plugin_bin_dir});
  return registry::Session::create(std::move(options));
}

const char* const kLocationHelp =
    "LOCATION is [host[:port]/]repository[:tag|@digest], oci:DIR[:TAG], oci-archive:FILE[:TAG] or\n"
    "docker-archive:FILE[:NAME].";

int fail(const Error& error) {
  std::fprintf(stderr, "pagein: %s\n", error.message.c_str());
  if (error.code == Code::unauthenticated) {
    std::fprintf(stderr,
                 "pagein: \"docker login HOST\" stores credentials where they are looked for; "
                 "see --docker-config\n");
  }
  return error.code == Code::cancelled ? kInterrupted : kFailed;
}

std::string human_bytes(uint64_t bytes) {
  static constexpr const char* kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1000 && unit + 1 < std::size(kUnits)) {
    value /= 1000;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", value, kUnits[unit]);
  return text;
}

namespace {

// What CLI11 says of a command that is missing or unknown names none.
std::string command_names(const CLI::App& app) {
  std::string names;
  for (const CLI::App* command : app.get_subcommands({})) {
    names += (names.empty() ? "" : ", ") + command->get_name();
  }
  return names;
}

int run(int argc, char** argv) {
  CLI::App app("Pagein: demand paging for container images.");
  app.set_version_flag("--version", std::string("pagein ") + PAGEIN_VERSION);
  app.require_subcommand(0, 1);  // a missing one is answered below
  app.fallthrough();             // -v may also follow the command
  bool verbose = false;
  app.add_flag("-v,--verbose", verbose, "Log what is done, to standard error");
  Run run_command;
  add_convert(app, &run_command);
  add_inspect(app, &run_command);
  add_check(app, &run_command);
  add_pull(app, &run_command);
  add_record(app, &run_command);
  add_node_commands(app, &run_command);
  add_doctor(app, &run_command);
  app.footer("\"pagein COMMAND --help\" tells more; so does pagein(1).");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ExtrasError& error) {
    if (!app.get_subcommands().empty()) return app.exit(error), kUsage;
    std::fprintf(stderr, "pagein: there is no such command; there are: %s\n",
                 command_names(app).c_str());
    return kUsage;
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kUsage;
  }
  if (!run_command) {
    std::fprintf(stderr, "pagein: give a command: %s\n", command_names(app).c_str());
    return kUsage;
  }
  log::configure(verbose ? log::Level::debug : log::Level::warn, log::Format::text);
  return run_command();
}

}  // namespace
}  // namespace pagein::cli

int main(int argc, char** argv) { return pagein::cli::run(argc, argv); }
