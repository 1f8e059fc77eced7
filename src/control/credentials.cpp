#include "control/credentials.h"

#include <nlohmann/json.hpp>

namespace pagein::control {

namespace {

constexpr size_t kMaxName = 512;  // namespace/name of a Secret

Result<std::string> name_in(const nlohmann::json& body) {
  const auto name = body.is_object() ? body.find("name") : body.end();
  if (!body.is_object() || name == body.end() || !name->is_string() ||
      name->get_ref<const std::string&>().empty() ||
      name->get_ref<const std::string&>().size() > kMaxName) {
    return Error(Code::invalid_argument, "\"name\" must be a text, for instance namespace/secret");
  }
  return name->get<std::string>();
}

nlohmann::json parse(std::string_view body) {
  return nlohmann::json::parse(body, nullptr, /*allow_exceptions=*/false);
}

}  // namespace

std::string credentials_json(node::Node& node) {
  const nlohmann::json out = {{"credentials", node.credentials().names()}};
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Status put_credentials(node::Node& node, std::string_view body) {
  const nlohmann::json json = parse(body);
  ASSIGN_OR_RETURN(const std::string name, name_in(json));
  const auto config = json.find("docker_config");
  if (config == json.end() || (!config->is_string() && !config->is_object())) {
    return Error(Code::invalid_argument,
                 "\"docker_config\" must be a Docker config.json, as text or as an object");
  }
  return node.credentials().put(
      name, config->is_string()
                ? config->get<std::string>()
                : config->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

Status remove_credentials(node::Node& node, std::string_view body) {
  ASSIGN_OR_RETURN(const std::string name, name_in(parse(body)));
  if (node.credentials().remove(name)) return {};
  return Error(Code::not_found, "there are no credentials of that name");
}

}  // namespace pagein::control
