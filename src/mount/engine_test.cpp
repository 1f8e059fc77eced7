#include "mount/engine_conformance.h"

namespace pagein::mount::testing {
namespace {

const auto kEngines = ::testing::Values(
    EngineFactory{"ErofsDirect", make_erofs_engine},
    EngineFactory{"ErofsBuffered", make_erofs_engine, DeviceCaching::buffered},
    EngineFactory{"ErofsLoop", loop_engine}, EngineFactory{"ErofsLoopFlat", flat_engine},
    EngineFactory{"Fuse", make_fuse_engine});

INSTANTIATE_TEST_SUITE_P(Engines, EngineConformance, kEngines, factory_name);
INSTANTIATE_TEST_SUITE_P(Engines, EngineConformanceDevices, kEngines, factory_name);

TEST(ErofsEngine, ProbeFindsItUsable) {
  SKIP_UNLESS_ROOT();
  auto server = FuseServer::start({}).value();
  auto engine = make_erofs_engine(*server);
  const TempDir scratch = TempDir::make("pagein-probe-", "/var/tmp").value();
  for (const char* time : {"first", "again, without room for files"}) {
    SCOPED_TRACE(time);
    const EngineProbe again = engine->probe(scratch.path());
    if (!again.usable) GTEST_SKIP() << "EROFS on files does not work here: " << again.findings[0];
  }
  const EngineProbe probe = engine->probe(scratch.path());
  for (const auto& finding : probe.findings) SCOPED_TRACE(finding);
  EXPECT_FALSE(probe.findings.empty());
  if (!probe.usable) GTEST_SKIP() << "EROFS on files does not work here: " << probe.findings[0];
  EXPECT_TRUE(probe.direct);
}

TEST(ErofsEngine, ProbeSaysWhyNot) {
  SKIP_UNLESS_ROOT();
  auto server = FuseServer::start({}).value();
  auto engine = make_erofs_engine(*server);
  const TempDir scratch = TempDir::make("pagein-probe-", "/dev/shm").value();
  const EngineProbe probe = engine->probe(scratch.path());  // metadata may not be on tmpfs
  EXPECT_FALSE(probe.usable);
  ASSERT_FALSE(probe.findings.empty());
  EXPECT_NE(probe.findings[0].find("tmpfs"), std::string::npos) << probe.findings[0];
}

}  // namespace
}  // namespace pagein::mount::testing
