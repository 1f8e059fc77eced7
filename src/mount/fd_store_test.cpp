#include "mount/fd_store.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "base/file.h"

namespace pagein::mount {
namespace {

// Sending to a manager is tested with the takeover, which receives as one.

TEST(FdStore, NamesFollowSystemdsRules) {
  EXPECT_TRUE(is_fd_name("image-sha256.0a"));
  EXPECT_TRUE(is_fd_name(std::string(255, 'x')));
  for (const std::string& name :
       {std::string(), std::string("a:b"), std::string("a\nb"), std::string("\x7f"),
        std::string("\xc3\xa4"), std::string(256, 'x')}) {
    EXPECT_FALSE(is_fd_name(name));
    EXPECT_EQ(FdStore().put(name, 0).error().code, Code::invalid_argument);
    EXPECT_EQ(FdStore().remove(name).error().code, Code::invalid_argument);
  }
}

TEST(FdStore, SaysSoWithoutAManager) {
  ::unsetenv("NOTIFY_SOCKET");
  EXPECT_FALSE(FdStore().available());
  EXPECT_EQ(FdStore().put("x", 0).error().code, Code::unsupported);
  EXPECT_EQ(FdStore().remove("x").error().code, Code::unsupported);
  EXPECT_EQ(FdStore().flush(10).error().code, Code::unsupported);
  EXPECT_TRUE(take_stored_fds().value().empty());
}

// In a child: descriptors start at 3.
int take_in_child(const std::string& path) {
  const int a = ::open(path.c_str(), O_RDONLY);
  const int b = ::open("/dev/null", O_RDONLY);
  if (::dup2(a, 3) != 3 || ::dup2(b, 4) != 4) return 1;
  ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
  ::setenv("LISTEN_FDS", "2", 1);
  ::setenv("LISTEN_FDNAMES", "image one:null", 1);
  auto fds = take_stored_fds();
  if (!fds.ok() || fds->size() != 2) return 2;
  if ((*fds)[0].name != "image one" || (*fds)[1].name != "null") return 3;
  char byte = 0;
  if (::pread((*fds)[0].fd.get(), &byte, 1, 0) != 1 || byte != 'x') return 4;
  if ((::fcntl((*fds)[0].fd.get(), F_GETFD) & FD_CLOEXEC) == 0) return 5;
  if (::getenv("LISTEN_FDS") != nullptr) return 6;
  return 0;
}

TEST(FdStore, TakesDescriptorsWithTheirNames) {
  TempDir dir = TempDir::make("pagein-fds-").value();
  const auto path = dir.path() / "f";
  ASSERT_TRUE(replace_file(path, as_bytes("x")).ok());
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(take_in_child(path.native()));
  int status = 0;
  ASSERT_EQ(::waitpid(pid, &status, 0), pid);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}

}  // namespace
}  // namespace pagein::mount
