// Runs a program that hands out credentials: what it reads and says is small,
// and it may hang.
#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace pagein::registry {

inline constexpr size_t kMaxProgramOutput = 1 << 20;

struct ProgramCall {
  std::vector<std::string> argv;  // [0]: a path, or a name to look up in PATH
  std::vector<std::string> env;   // "NAME=value", beside and before our own environment
  std::string_view input;         // for its standard input
  std::chrono::seconds timeout{30};
};

struct ProgramResult {
  int exit_code = 0;   // 128 + signal where one ended it
  std::string output;  // standard output
};

// Blocks until it has ended or `timeout` passed (it is killed then, with its
// process group: timeout). Its standard error goes nowhere: it may hold secrets.
// not_found: no such program; exhausted: it says more than kMaxProgramOutput.
Result<ProgramResult> run_program(const ProgramCall& call);

}  // namespace pagein::registry
