#include "mount/engine_conformance.h"
#include "mount/engine_set.h"

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

// Bound loop devices whose file lies below `dir`.
size_t loops_on(const std::filesystem::path& dir) {
  size_t count = 0;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/block", ignored)) {
    const Result<std::string> file = read_file(entry.path() / "loop" / "backing_file");
    if (file.ok() && file->starts_with(dir.native())) ++count;
  }
  return count;
}

TEST(ErofsLoopEngine, LoopDevicesGoWithTheirLastUser) {
  SKIP_UNLESS_ROOT();
  auto server = FuseServer::start({}).value();
  auto engine = make_erofs_loop_engine(*server);
  TestImage image(1, "looptest");
  ASSERT_TRUE(replace_file(image.dir() / "d0", pattern(0, 0, kDeviceBytes)).ok());
  const ImageSpec spec = image.spec({ImageDevice::local(image.dir() / "d0", kDeviceBytes)});
  auto mounted = engine->mount(spec);
  if (!mounted.ok()) GTEST_SKIP() << mounted.error().message;
  EXPECT_EQ(loops_on(image.dir()), 2u);
  mounted->reset();  // a daemon that stops takes nothing away
  EXPECT_EQ(loops_on(image.dir()), 2u);
  EXPECT_EQ(read_at(image.file(0), 0, kFileBytes).bytes, pattern(0, 0, kFileBytes));
  auto adopted = engine->adopt(spec, UniqueFd(), {false, EngineKind::erofs_loop, {}});
  ASSERT_TRUE(adopted.ok()) << adopted.error().message;
  EXPECT_TRUE((*adopted)->unmount(UnmountMode::normal).ok());
  EXPECT_EQ(loops_on(image.dir()), 0u);
  ImageSpec broken = spec;
  broken.metadata = image.dir() / "d0";  // no EROFS
  EXPECT_FALSE(engine->mount(broken).ok());
  EXPECT_EQ(loops_on(image.dir()), 0u);
}

TEST(EngineSet, ChoosesByTryingAndContinuesWhatAnyEngineMounted) {
  SKIP_UNLESS_ROOT();
  auto server = FuseServer::start({}).value();
  const TempDir scratch = TempDir::make("pagein-probe-", "/var/tmp").value();
  EngineSet set(*server, EngineChoice::automatic);
  const EngineProbe probe = set.probe(scratch.path());
  ASSERT_TRUE(probe.usable);
  EXPECT_EQ(probe.engine, set.name());
  ASSERT_EQ(set.reports().size(), 3u);
  bool better = false;  // the first that is usable
  for (const EngineProbe& report : set.reports()) {
    EXPECT_FALSE(report.findings.empty());
    if (report.engine == probe.engine) break;
    better |= report.usable;
  }
  EXPECT_FALSE(better);

  EngineSet forced(*server, EngineChoice::fuse);
  ASSERT_TRUE(forced.probe(scratch.path()).usable);
  EXPECT_EQ(forced.name(), "fuse");
  TestImage image(1);
  auto devices = TestImage::devices(1);
  auto mounted = forced.mount(image.spec(devices)).value();
  const ImageMountState state = mounted->state();
  EXPECT_EQ(state.engine, EngineKind::fuse);
  if (!state.fuse.can_resend()) return;
  UniqueFd kept(::fcntl(mounted->device_fd(), F_DUPFD_CLOEXEC, 0));
  mounted.reset();
  auto adopted = set.adopt(image.spec(devices), std::move(kept), state);
  ASSERT_TRUE(adopted.ok()) << adopted.error().message;
  EXPECT_EQ(read_at(image.file(0), 0, 4096).bytes, devices[0]->bytes(0, 4096));
  EXPECT_TRUE((*adopted)->unmount(UnmountMode::normal).ok());
}

TEST(EngineSet, SaysWhyTheForcedEngineDoesNotWork) {
  SKIP_UNLESS_ROOT();
  auto server = FuseServer::start({}).value();
  const TempDir scratch = TempDir::make("pagein-probe-", "/dev/shm").value();
  EngineSet set(*server, EngineChoice::erofs);  // metadata may not be on tmpfs
  const EngineProbe probe = set.probe(scratch.path());
  EXPECT_FALSE(probe.usable);
  EXPECT_EQ(probe.engine, "erofs");
  ASSERT_FALSE(probe.findings.empty());
  EXPECT_NE(probe.findings[0].find("erofs: "), std::string::npos) << probe.findings[0];
  TestImage image(1);
  EXPECT_EQ(set.mount(image.spec(TestImage::devices(1))).error().code, Code::unsupported);
}

}  // namespace
}  // namespace pagein::mount::testing
