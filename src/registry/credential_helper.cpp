#include "registry/credential_helper.h"

#include <algorithm>

#include "oci/json.h"
#include "registry/program.h"

namespace pagein::registry {

namespace {

bool is_helper_name(std::string_view name) {
  return !name.empty() && name.size() < 200 && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  });
}

}  // namespace

Result<Credentials> parse_helper_answer(ByteView json) {
  ASSIGN_OR_RETURN(const oci::Json document, oci::parse_json(json, "credential helper's answer",
                                                             {.max_bytes = kMaxProgramOutput}));
  Credentials out;
  ASSIGN_OR_RETURN(out.username, oci::json_string(document, "Username"));
  ASSIGN_OR_RETURN(const std::string secret, oci::json_string(document, "Secret"));
  if (out.username == "<token>") {
    out.username.clear();
    out.identity_token = secret;
  } else {
    out.password = secret;
  }
  return out;
}

Result<Credentials> ask_credential_helper(std::string_view helper, std::string_view host) {
  if (!is_helper_name(helper)) {
    return Error(Code::invalid_argument, "\"" + std::string(helper.substr(0, 100)) +
                                             "\" is no name of a credential helper");
  }
  const std::string program = "docker-credential-" + std::string(helper);
  // What `docker login` stored Docker Hub's under.
  const std::string server =
      host == "docker.io" ? "https://index.docker.io/v1/" : std::string(host);
  ASSIGN_OR_RETURN(const ProgramResult result,
                   run_program({.argv = {program, "get"}, .input = server}));
  if (result.exit_code != 0) {
    // Said on standard output; the text is fixed in docker-credential-helpers.
    if (result.output.find("credentials not found") != std::string::npos) return Credentials();
    return Error(Code::unauthenticated, program + " get failed for " + std::string(host) +
                                            " with exit code " + std::to_string(result.exit_code) +
                                            "; run it by hand to see why");
  }
  Result<Credentials> out = parse_helper_answer(as_bytes(result.output));
  if (!out.ok()) return out.error().with_context(program);
  out->source = program + "'s login for " + std::string(host);
  return out;
}

}  // namespace pagein::registry
