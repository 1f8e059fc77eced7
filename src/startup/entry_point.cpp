#include "startup/entry_point.h"

#include <algorithm>
#include <map>

#include "oci/json.h"
#include "startup/shell_words.h"

namespace pagein::startup {
namespace {

constexpr int kMaxDepth = 8;           // of programs that run programs
constexpr size_t kMaxCommands = 5000;  // looked at, of all scripts
constexpr size_t kMaxWords = 100'000;  // in them
constexpr uint64_t kMaxScript = 256 << 10;
constexpr uint64_t kMaxPackageJson = 1 << 20;
// What containerd and runc give where the image has none.
constexpr std::string_view kDefaultPath =
    "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), name) != names.end();
}
bool is_shell(std::string_view name) {
  return is_one_of(name, {"sh", "bash", "dash", "ash", "ksh", "zsh"});
}
// Programs whose arguments are another command.
bool is_wrapper(std::string_view name) {
  return is_one_of(
      name, {"exec",    "command", "env",         "nohup",     "nice",      "ionice", "time",
             "timeout", "tini",    "tini-static", "dumb-init", "catatonit", "gosu",   "su-exec",
             "setpriv", "chroot",  "stdbuf",      "setsid",    "busybox",   "xargs",  "eval"});
}
std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

class EntryPoint {
 public:
  EntryPoint(const ImageFiles& files, const oci::ImageConfig& config, const OpenFile& open)
      : files_(files), env_(environment(config)), out_(files, env_["LD_LIBRARY_PATH"], open) {
    cwd_ = config.working_dir.starts_with('/') ? config.working_dir : "/" + config.working_dir;
  }

  Result<std::vector<StartupFile>> run(const oci::ImageConfig& config) {
    ShellCommand command = config.entrypoint;
    command.insert(command.end(), config.cmd.begin(), config.cmd.end());
    // The runtime looks the user up before anything else.
    for (const char* path : {"/etc/passwd", "/etc/group"}) {
      if (const auto node = files_.resolve_file(path)) out_.add(*node);
    }
    RETURN_IF_ERROR(run_command(command, 0));
    return out_.take();
  }

 private:
  using Environment = std::map<std::string, std::string>;

  static Environment environment(const oci::ImageConfig& config) {
    Environment env;
    for (const std::string& line : config.env) {
      const size_t equals = line.find('=');
      if (equals != std::string::npos) env[line.substr(0, equals)] = line.substr(equals + 1);
    }
    if (env["PATH"].empty()) env["PATH"] = kDefaultPath;
    return env;
  }

  Status run_command(ShellCommand command, int depth);
  Status run_text(std::string_view script, int depth);
  Status run_script(tree::NodeId script, int depth);
  Status run_wrapped(const ShellCommand& command, int depth);
  Status run_program(tree::NodeId program, const ShellCommand& command, int depth);
  Status read_arguments(const std::string& name, const ShellCommand& command, int depth);
  Status shell(const ShellCommand& command, int depth);
  Status interpreter(const std::string& name, const ShellCommand& command, int depth);
  Status node_script(const ShellCommand& command, size_t at, int depth);
  Status npm(const ShellCommand& command, size_t at, int depth);
  void python_module(const std::string& module);
  Status java(tree::NodeId program, const ShellCommand& command);
  void add_arguments(const ShellCommand& command);

  std::optional<tree::NodeId> find_program(const std::string& name) const;
  Result<std::optional<oci::Json>> package_json(const std::string& directory);
  std::string expand(const std::string& word) const;
  bool add_file(const std::string& path) {
    const auto node = files_.resolve_file(path, cwd_);
    if (node) out_.add(*node);
    return node.has_value();
  }

  const ImageFiles& files_;
  Environment env_;
  std::string cwd_;
  ProgramFiles out_;
  size_t commands_ = 0;
  size_t words_ = 0;
  std::unordered_set<tree::NodeId> scripts_;  // read already
};

std::optional<tree::NodeId> EntryPoint::find_program(const std::string& name) const {
  if (name.empty()) return std::nullopt;
  if (name.find('/') != std::string::npos) return files_.resolve_file(name, cwd_);
  std::string_view path = env_.at("PATH");
  for (int i = 0; i < 64 && !path.empty(); ++i) {
    const size_t end = std::min(path.find(':'), path.size());
    const auto node = files_.resolve_file(std::string(path.substr(0, end)) + "/" + name, cwd_);
    if (node && files_.is_executable(*node)) return node;
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return std::nullopt;
}

// $NAME and ${NAME} of the image's environment; others stay.
std::string EntryPoint::expand(const std::string& word) const {
  std::string out;
  for (size_t at = 0; at < word.size() && out.size() < kMaxScript;) {
    if (word[at] != '$') {
      out += word[at++];
      continue;
    }
    const bool braced = word.substr(at + 1, 1) == "{";
    const size_t begin = at + 1 + (braced ? 1 : 0);
    size_t end = begin;
    while (end < word.size() &&
           (std::isalnum(static_cast<unsigned char>(word[end])) != 0 || word[end] == '_'))
      ++end;
    const auto it = env_.find(word.substr(begin, end - begin));
    if (it == env_.end() || (braced && word.substr(end, 1) != "}")) {
      out += word[at++];
      continue;
    }
    out += it->second;
    at = end + (braced ? 1 : 0);
  }
  return out;
}

Status EntryPoint::run_command(ShellCommand command, int depth) {
  if (command.empty() || depth > kMaxDepth) return {};
  words_ += command.size();
  if (++commands_ > kMaxCommands || words_ > kMaxWords) return {};
  for (std::string& word : command) word = expand(word);
  const std::string name = base_name(command[0]);
  if (name == "cd" && command.size() > 1) {
    if (const auto node = files_.resolve(command[1], cwd_)) cwd_ = files_.path(*node);
    return {};
  }
  if ((name == "." || name == "source") && command.size() > 1) {
    const auto script = files_.resolve_file(command[1], cwd_);
    return script ? run_script(*script, depth + 1) : Status();
  }
  const auto program = find_program(command[0]);
  if (program) RETURN_IF_ERROR(run_program(*program, command, depth));
  if (is_wrapper(name)) return run_wrapped(command, depth);
  if (!program) add_arguments(command);
  return {};
}

// The first argument that is a program begins the command: options and their
// values, users and NAME=VALUE are none.
Status EntryPoint::run_wrapped(const ShellCommand& command, int depth) {
  for (size_t i = 1; i < command.size(); ++i) {
    if (command[i].starts_with('-') && command[i].find('/') == std::string::npos) continue;
    // "env -S" and eval: a whole command in one word.
    if (command[i].find(' ') != std::string::npos) return run_text(command[i], depth + 1);
    if (!find_program(command[i])) continue;
    return run_command({command.begin() + static_cast<ptrdiff_t>(i), command.end()}, depth + 1);
  }
  return {};
}

Status EntryPoint::run_program(tree::NodeId program, const ShellCommand& command, int depth) {
  ASSIGN_OR_RETURN(const std::string head, out_.read(program, 256));
  if (head.size() < 2 || head[0] != '#' || head[1] != '!') {
    RETURN_IF_ERROR(out_.add_program(program));
    const std::string name = base_name(command[0]);
    if (name == "java") return java(program, command);
    return is_wrapper(name) ? Status() : read_arguments(name, command, depth);
  }
  // "#!interpreter argument", the argument undivided.
  std::string line = head.substr(2, head.find('\n') - 2);
  line.erase(0, std::min(line.find_first_not_of(" \t"), line.size()));
  line.erase(line.find_last_not_of(" \t\r") + 1);
  const size_t space = std::min(line.find_first_of(" \t"), line.size());
  ShellCommand next = {line.substr(0, space)};
  line.erase(0, std::min(line.find_first_not_of(" \t", space), line.size()));
  if (!line.empty()) next.push_back(line.starts_with("-S ") ? line.substr(3) : line);
  next.push_back(command[0].find('/') == std::string::npos ? files_.path(program) : command[0]);
  next.insert(next.end(), command.begin() + 1, command.end());
  out_.add(program);
  return run_command(std::move(next), depth + 1);
}

Status EntryPoint::read_arguments(const std::string& name, const ShellCommand& command, int depth) {
  if (is_shell(name)) return shell(command, depth);
  for (const char* known : {"node", "nodejs", "python", "ruby", "perl", "php", "deno", "bun"}) {
    if (name == known ||
        (name.starts_with(known) &&
         std::isdigit(static_cast<unsigned char>(name[std::string_view(known).size()])) != 0)) {
      return interpreter(name, command, depth);
    }
  }
  add_arguments(command);
  return {};
}

// "--config=/etc/x" counts too. Directories do not: nobody knows what of them.
void EntryPoint::add_arguments(const ShellCommand& command) {
  for (size_t i = 1; i < command.size(); ++i) {
    const std::string& word = command[i];
    if (word.find('/') == std::string::npos && word.find('.') == std::string::npos) continue;
    if (add_file(word)) continue;
    const size_t equals = word.find('=');
    if (equals != std::string::npos) add_file(word.substr(equals + 1));
  }
}

Status EntryPoint::shell(const ShellCommand& command, int depth) {
  for (size_t i = 1; i < command.size(); ++i) {
    const std::string& word = command[i];
    if (word.starts_with('-')) {
      const bool text = !word.starts_with("--") && word.find('c') != std::string::npos;
      if (text && i + 1 < command.size()) return run_text(command[i + 1], depth + 1);
      continue;
    }
    if (const auto script = files_.resolve_file(word, cwd_)) {
      RETURN_IF_ERROR(run_script(*script, depth + 1));
    }
    // Many end with exec "$@".
    return run_command({command.begin() + static_cast<ptrdiff_t>(i) + 1, command.end()}, depth + 1);
  }
  return {};
}

Status EntryPoint::run_script(tree::NodeId script, int depth) {
  out_.add(script);
  if (!scripts_.insert(script).second) return {};
  ASSIGN_OR_RETURN(const std::string text, out_.read(script, kMaxScript));
  return run_text(text, depth);
}

Status EntryPoint::run_text(std::string_view script, int depth) {
  const std::string cwd = cwd_;
  for (const ShellCommand& command : shell_commands(script)) {
    RETURN_IF_ERROR(run_command(command, depth));
  }
  cwd_ = cwd;
  return {};
}

// The first argument that is no option is the script.
Status EntryPoint::interpreter(const std::string& name, const ShellCommand& command, int depth) {
  const bool python = name.starts_with("python");
  const bool node = name.starts_with("node");
  for (size_t i = 1; i < command.size(); ++i) {
    const std::string& word = command[i];
    const bool has_value =
        is_one_of(word, {"-r", "--require", "--import", "--loader", "-W", "-X", "-I", "-d", "-C"});
    if (python && word == "-m" && i + 1 < command.size()) {
      python_module(command[i + 1]);
      return {};
    }
    if (word == "-c" || word == "-e") return {};
    if (word.starts_with('-')) {
      if (has_value && i + 1 < command.size()) add_file(command[++i]);
      continue;
    }
    if (node) return node_script(command, i, depth);
    if (!add_file(word) && python) add_file(word + "/__main__.py");
    add_arguments({command.begin() + static_cast<ptrdiff_t>(i), command.end()});
    return {};
  }
  return {};
}

void EntryPoint::python_module(const std::string& module) {
  std::string path = module;
  std::replace(path.begin(), path.end(), '.', '/');
  std::string_view rest = env_["PYTHONPATH"];
  std::string directory = cwd_;
  for (int i = 0; i < 64; ++i) {
    const std::string base = directory + "/" + path;
    if (add_file(base + ".py")) return;
    const bool package = add_file(base + "/__init__.py");
    if (add_file(base + "/__main__.py") || package) return;
    if (rest.empty()) return;
    const size_t end = std::min(rest.find(':'), rest.size());
    directory = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
}

Result<std::optional<oci::Json>> EntryPoint::package_json(const std::string& directory) {
  const auto node = files_.resolve_file(directory + "/package.json", cwd_);
  if (!node) return std::optional<oci::Json>();
  out_.add(*node);
  ASSIGN_OR_RETURN(const std::string text, out_.read(*node, kMaxPackageJson));
  auto json = oci::parse_json(as_bytes(text), "package.json");
  if (!json.ok()) return std::optional<oci::Json>();
  return std::optional<oci::Json>(*std::move(json));
}

// Node.js, "CommonJS modules": a file, a file without its extension, or a
// directory with package.json's main or index.js.
Status EntryPoint::node_script(const ShellCommand& command, size_t at, int depth) {
  const std::string& script = command[at];
  if (is_one_of(base_name(script), {"npm", "yarn", "pnpm"})) return npm(command, at, depth);
  for (const char* extension : {"", ".js", ".mjs", ".cjs"}) {
    if (!add_file(script + extension)) continue;
    const size_t slash = script.rfind('/');
    ASSIGN_OR_RETURN(const auto beside,
                     package_json(slash == std::string::npos ? "." : script.substr(0, slash)));
    static_cast<void>(beside);  // node reads it to see which kind of modules these are
    return {};
  }
  ASSIGN_OR_RETURN(const auto package, package_json(script));
  std::string main;
  if (package) main = oci::json_string(*package, "main").value_or("");
  for (const std::string& name : {main, main + ".js", main + "/index.js"}) {
    if (!main.empty() && add_file(script + "/" + name)) return {};
  }
  add_file(script + "/index.js");
  return {};
}

// "npm start", "npm run NAME": the command is in package.json.
Status EntryPoint::npm(const ShellCommand& command, size_t at, int depth) {
  add_file(command[at]);
  std::string name;
  for (size_t i = at + 1; i < command.size(); ++i) {
    if (command[i].starts_with('-') || command[i] == "run" || command[i] == "run-script") continue;
    name = command[i];
    break;
  }
  ASSIGN_OR_RETURN(const auto package, package_json("."));
  if (!package || name.empty()) return {};
  const oci::Json* scripts = oci::json_find(*package, "scripts");
  if (scripts == nullptr) return {};
  const std::string script = oci::json_string(*scripts, name.c_str()).value_or("");
  // npm runs it by a shell.
  return run_command({"sh", "-c", script}, depth + 1);
}

// The launcher loads the machine from its own tree, by dlopen.
Status EntryPoint::java(tree::NodeId program, const ShellCommand& command) {
  for (const char* name : {"libjli.so", "server/libjvm.so", "libjava.so", "libjimage.so"}) {
    const std::string path = files_.path(files_.tree().parent(program)) + "/../lib/" + name;
    if (const auto node = files_.resolve_file(path)) RETURN_IF_ERROR(out_.add_program(*node));
  }
  for (size_t i = 1; i + 1 < command.size(); ++i) {
    if (command[i] == "-jar") add_file(command[i + 1]);
    if (!is_one_of(command[i], {"-cp", "-classpath", "--class-path"})) continue;
    std::string_view rest = command[i + 1];
    while (!rest.empty()) {
      const size_t end = std::min(rest.find(':'), rest.size());
      add_file(std::string(rest.substr(0, end)));
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
  }
  return {};
}

}  // namespace

Result<std::vector<StartupFile>> entry_point_files(const ImageFiles& files,
                                                   const oci::ImageConfig& config,
                                                   const OpenFile& open) {
  return EntryPoint(files, config, open).run(config);
}

}  // namespace pagein::startup
