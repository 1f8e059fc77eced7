// A rough reading of shell scripts: enough to see which commands they name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pagein::startup {

inline constexpr size_t kMaxShellWords = 20'000;

// The words of one simple command, the command's name first. Quotes are taken
// away, assignments in front are dropped (A=1 cmd), `$NAME` stays as it is.
using ShellCommand = std::vector<std::string>;

// The simple commands of a script, in the order of the text, whatever branches,
// functions or substitutions they stand in. Keywords are no commands; comments
// and redirections' targets are left out, here-documents are not told from
// commands. Never fails: what is no shell script gives commands that do not
// exist. Pure; thread-safe.
std::vector<ShellCommand> shell_commands(std::string_view script);

}  // namespace pagein::startup
