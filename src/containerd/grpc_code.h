// The one table between our error codes and gRPC's (as numbers: the gRPC
// headers stay in .cpp files). Source: grpc doc/statuscodes.md; which of them
// containerd understands: containerd errdefs/grpc.go. Pure.
#pragma once

#include "base/error.h"

namespace pagein::containerd {

int to_grpc_code(Code code);
// Numbers without a counterpart are internal.
Code from_grpc_code(int code);

}  // namespace pagein::containerd
