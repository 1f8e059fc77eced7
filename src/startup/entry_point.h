// What an image's entry point reads as it starts, as far as that can be seen
// without running it.
#pragma once

#include <vector>

#include "oci/image_config.h"
#include "startup/program_files.h"

namespace pagein::startup {

// Entrypoint and Cmd, found by the config's PATH and working directory: the
// program, its interpreter (#! or ELF) and its shared libraries; the same for
// the commands that a shell script or a `sh -c` names; the script, module or jar
// that node, python, ruby, perl, php or java is given; the files that other
// programs get as arguments; what wrappers (env, tini, gosu and such) run.
//
// A guess: files that are not needed may be in it, and what programs open by
// themselves is not. In the order in which a start needs them. Hostile images
// cost bounded work: at most kMaxStartupFiles files, kMaxOpenedFiles looked into.
// Errors are those of reading. Blocks as `open` does; thread-safe.
Result<std::vector<StartupFile>> entry_point_files(const ImageFiles& files,
                                                   const oci::ImageConfig& config,
                                                   const OpenFile& open);

}  // namespace pagein::startup
