// How `pagein convert --dry-run` shows what it found.
#pragma once

#include <string>
#include <vector>

#include "convert/estimate.h"

namespace pagein::cli {

// `destinations`: of each target, in the estimate's order.
std::string estimate_json(const convert::Estimate& estimate,
                          const std::vector<std::string>& destinations);
void print_estimate(const convert::Estimate& estimate,
                    const std::vector<std::string>& destinations);

}  // namespace pagein::cli
