#include "apps/pagein/commands.h"
namespace pagein::cli {
void add_pull(CLI::App&, Run*) {}
}  // namespace pagein::cli
