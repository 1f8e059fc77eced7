#include <gtest/gtest.h>
#include <unistd.h>

#include "mount/engine.h"

namespace pagein::mount {
namespace {
TEST(Probe, Erofs) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to mount";
  auto server = FuseServer::start({}).value();
  auto engine = make_erofs_engine(*server);
  EngineProbe probe = engine->probe("/var/tmp");
  for (const auto& f : probe.findings) std::cout << f << "\n";
  EXPECT_TRUE(probe.usable);
}
}  // namespace
}  // namespace pagein::mount
