#include "containerd/grpc_code.h"

#include <utility>

namespace pagein::containerd {

namespace {
// The first entry of a code counts in that direction.
constexpr std::pair<Code, int> kCodes[] = {
    {Code::cancelled, 1},           {Code::invalid_argument, 3},  {Code::timeout, 4},
    {Code::not_found, 5},           {Code::already_exists, 6},    {Code::exhausted, 8},
    {Code::failed_precondition, 9}, {Code::invalid_argument, 11},  // OUT_OF_RANGE
    {Code::unsupported, 12},        {Code::internal, 13},         {Code::unavailable, 14},
    {Code::corrupt_input, 15},                                   // DATA_LOSS
    {Code::unauthenticated, 16},    {Code::unauthenticated, 7},  // PERMISSION_DENIED
    {Code::unavailable, 10},  // ABORTED: containerd's "try again"
};
}  // namespace

int to_grpc_code(Code code) {
  for (const auto& [ours, theirs] : kCodes) {
    if (ours == code) return theirs;
  }
  return 2;  // UNKNOWN
}

Code from_grpc_code(int code) {
  for (const auto& [ours, theirs] : kCodes) {
    if (theirs == code) return ours;
  }
  return Code::internal;
}

}  // namespace pagein::containerd
