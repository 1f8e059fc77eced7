// kill -9 in the middle of Prepare, Commit and Remove: what was answered is
// there afterwards, and no folder is without a snapshot.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "snapshotter/snapshotter.h"
#include "snapshotter/test_api.h"

namespace pagein::snapshotter {
namespace {

namespace fs = std::filesystem;

constexpr int kRounds = 20;

// Runs in the child until it is killed; each answered call is one line.
[[noreturn]] void work(const fs::path& root, int out, int round) {
  const auto opened = Snapshotter::open({.root = root});
  if (!opened.ok()) ::_exit(1);
  Snapshotter& snapshotter = **opened;
  auto say = [&](const std::string& line) {
    if (::write(out, (line + "\n").data(), line.size() + 1) < 0) ::_exit(1);
  };
  std::string parent;
  for (int i = 0;; ++i) {
    const std::string id = std::to_string(round) + "-" + std::to_string(i);
    if (!snapshotter.prepare("a" + id, parent, {{"l", id}}).ok()) ::_exit(1);
    say("+a" + id);
    say("?a" + id);  // may be gone from here: the commit renames it
    if (!snapshotter.commit("c" + id, "a" + id, {}).ok()) ::_exit(1);
    say("+c" + id);
    if (i % 3 == 2) parent = "c" + id;
    if (i % 3 == 1) {
      say("?c" + id);
      if (!snapshotter.remove("c" + id).ok()) ::_exit(1);
      say("-c" + id);
    }
  }
}

struct Expected {
  std::set<std::string> there;
  std::set<std::string> gone;
};

Expected replay(const std::string& lines) {
  Expected expected;
  for (size_t at = 0, end; (end = lines.find('\n', at)) != std::string::npos; at = end + 1) {
    const std::string name = lines.substr(at + 1, end - at - 1);
    switch (lines[at]) {
      case '+': expected.there.insert(name); break;
      case '?': expected.there.erase(name); break;
      case '-': expected.gone.insert(name); break;
    }
  }
  return expected;
}

// Reads until `lines` lines have come, kills the child, reads the rest.
std::string run_and_kill(const fs::path& root, int round, size_t lines) {
  int pipes[2];
  EXPECT_EQ(::pipe2(pipes, O_CLOEXEC), 0);
  UniqueFd in(pipes[0]), out(pipes[1]);
  const pid_t child = ::fork();
  if (child == 0) work(root, out.get(), round);
  out.reset();
  std::string text;
  size_t seen = 0;
  bool killed = false;
  char buffer[4096];
  for (ssize_t n; (n = ::read(in.get(), buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<size_t>(n));
    seen += static_cast<size_t>(std::count(buffer, buffer + n, '\n'));
    if (!killed && seen >= lines) killed = ::kill(child, SIGKILL) == 0;
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_TRUE(WIFSIGNALED(status));
  return text;
}

TEST(Crash, KilledAtAnyPointLeavesAConsistentRoot) {
  const auto dir = TempDir::make("pagein-crash-");
  ASSERT_TRUE(dir.ok());
  const fs::path root = dir->path() / "root";
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(round);
    const Expected expected = replay(run_and_kill(root, round, 1 + static_cast<size_t>(round) * 7));
    const auto snapshotter = Snapshotter::open({.root = root});
    ASSERT_TRUE(snapshotter.ok()) << snapshotter.error().message;
    const auto infos = (*snapshotter)->list({});
    ASSERT_TRUE(infos.ok());
    std::set<std::string> names;
    for (const Info& info : *infos) names.insert(info.name);
    for (const std::string& name : expected.there) EXPECT_TRUE(names.contains(name)) << name;
    for (const std::string& name : expected.gone) EXPECT_FALSE(names.contains(name)) << name;
    // I1: as many folders as rows, each complete.
    size_t folders = 0;
    for (const auto& entry : fs::directory_iterator(root / "snapshots")) {
      ++folders;
      EXPECT_TRUE(fs::is_directory(entry.path() / "fs")) << entry.path();
      EXPECT_TRUE(fs::is_directory(entry.path() / "work")) << entry.path();
    }
    EXPECT_EQ(folders, names.size());
  }
}

}  // namespace
}  // namespace pagein::snapshotter
