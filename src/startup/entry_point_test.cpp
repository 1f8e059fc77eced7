#include "startup/entry_point.h"

#include <gtest/gtest.h>

#include <map>

#include "startup/elf_testing.h"
#include "startup/shell_words.h"
#include "tree/layer_maker.h"
#include "tree/merge.h"

namespace pagein::startup {
namespace {

using Commands = std::vector<ShellCommand>;

TEST(ShellWords, Commands) {
  EXPECT_EQ(shell_commands("a b; c 'd e' \"f $G\"|h&&i"),
            (Commands{{"a", "b"}, {"c", "d e", "f $G"}, {"h"}, {"i"}}));
  EXPECT_EQ(shell_commands("if test -f x; then A=1 exec y > /dev/null 2>&1; fi # z\n"),
            (Commands{{"test", "-f", "x"}, {"exec", "y"}}));
  EXPECT_EQ(shell_commands("a\\ b \\\n c"), (Commands{{"a b", "c"}}));
  EXPECT_EQ(shell_commands("x=$(date +%s) `y` #"), (Commands{{"date", "+%s"}, {"y"}}));
  EXPECT_EQ(shell_commands("'unfinished"), (Commands{{"unfinished"}}));
  EXPECT_TRUE(shell_commands(" \n;;#only").empty());
}

TEST(Elf, ReadsWhatTheLoaderReads) {
  const Bytes file =
      ElfMaker{.interpreter = "/lib/ld.so", .needed = {"liba.so", "libb.so"}, .runpath = "$ORIGIN"}
          .make();
  FileBytesView view(file);
  const ElfFile elf = parse_elf(view).value();
  EXPECT_TRUE(elf.is_64);
  EXPECT_EQ(elf.machine, 62);
  EXPECT_EQ(elf.interpreter, "/lib/ld.so");
  EXPECT_EQ(elf.needed, (std::vector<std::string>{"liba.so", "libb.so"}));
  EXPECT_EQ(elf.runpath, "$ORIGIN");
  ASSERT_EQ(elf.load.size(), 1u);
  EXPECT_EQ(elf.load[0].length, file.size() - 16);
}

TEST(Elf, RefusesOthers) {
  FileBytesView text(as_bytes("#!/bin/sh\n"));
  EXPECT_EQ(parse_elf(text).error().code, Code::not_found);
  const Bytes file = ElfMaker{.needed = {"liba.so"}}.make();
  FileBytesView cut(ByteView(file).first(60));
  EXPECT_EQ(parse_elf(cut).error().code, Code::corrupt_input);
}

// An image of one layer, with its files' contents at hand.
class EntryPointTest : public testing::Test {
 protected:
  void file(const std::string& path, const std::string& content, uint16_t mode = 0644) {
    const size_t slash = path.rfind('/');
    if (slash != std::string::npos) maker_.dir(path.substr(0, slash));
    tar::Entry entry;
    entry.mode = mode;
    maker_.with(entry).file(path, content.size());
    contents_[path] = content;
  }
  void program(const std::string& path, const std::string& content) { file(path, content, 0755); }
  void elf(const std::string& path, const ElfMaker& maker) {
    program(path, std::string(as_text(maker.make())));
  }
  void link(const std::string& path, const std::string& target) { maker_.symlink(path, target); }

  // Paths that a start with this command reads, without /etc/passwd and the like.
  std::vector<std::string> reads(std::vector<std::string> command) {
    config_.cmd = std::move(command);
    const tree::Tree tree = tree::merge({maker_.finish()}).value();
    const ImageFiles files(tree);
    const OpenFile open = [&](tree::NodeId node) -> Result<std::unique_ptr<FileBytes>> {
      return std::make_unique<FileBytesView>(as_bytes(contents_.at(tree.path(node))));
    };
    std::vector<std::string> paths;
    const auto found = entry_point_files(files, config_, open).value();
    for (const StartupFile& file : found) {
      paths.push_back(files.path(file.node));
    }
    return paths;
  }

  using Paths = std::vector<std::string>;
  tree::LayerMaker maker_;
  std::map<std::string, std::string> contents_;
  oci::ImageConfig config_;
};

TEST_F(EntryPointTest, ProgramInterpreterAndLibraries) {
  elf("usr/bin/app", {.interpreter = "/lib64/ld.so", .needed = {"libx.so", "libnone.so"}});
  elf("lib64/ld.so", {});
  elf("opt/x/libx.so.1", {.needed = {"liby.so"}, .runpath = "$ORIGIN/../y"});
  elf("opt/y/liby.so", {});
  file("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n");
  file("etc/ld.so.conf.d/x.conf", "# comment\n/opt/x\n");
  link("opt/x/libx.so", "libx.so.1");
  EXPECT_EQ(reads({"app"}),
            (Paths{"/usr/bin/app", "/lib64/ld.so", "/opt/x/libx.so.1", "/opt/y/liby.so"}));
}

TEST_F(EntryPointTest, LibraryPathOfTheEnvironment) {
  elf("bin/app", {.needed = {"libx.so"}});
  elf("libs/libx.so", {});
  elf("usr/lib/libx.so", {});
  config_.env = {"PATH=/nothing:/bin", "LD_LIBRARY_PATH=/libs"};
  EXPECT_EQ(reads({"app"}), (Paths{"/bin/app", "/libs/libx.so"}));
}

TEST_F(EntryPointTest, ShebangAndEnv) {
  program("app/run", "#!/usr/bin/env -S node --enable\n");
  elf("usr/bin/env", {});
  elf("usr/bin/node", {});
  config_.working_dir = "/app";
  // env's command is found in its one argument.
  EXPECT_EQ(reads({"./run"}), (Paths{"/app/run", "/usr/bin/env", "/usr/bin/node"}));
}

TEST_F(EntryPointTest, ShellScriptAndTheCommandItIsGiven) {
  program("entry.sh",
          "#!/bin/sh\nset -e\n. /etc/defaults\n[ -f /etc/conf ] && cat /etc/conf\n"
          "exec \"$@\"\n");
  elf("bin/dash", {});
  link("bin/sh", "dash");
  elf("bin/cat", {});
  file("etc/defaults", "X=1 /bin/helper\n");
  program("bin/helper", "#!/bin/sh\n/bin/helper\n");
  file("etc/conf", "x");
  elf("usr/sbin/server", {});
  file("etc/server.conf", "x");
  config_.entrypoint = {"/entry.sh"};
  EXPECT_EQ(reads({"server", "--config=/etc/server.conf"}),
            (Paths{"/entry.sh", "/bin/dash", "/etc/defaults", "/bin/helper", "/etc/conf",
                   "/bin/cat", "/usr/sbin/server", "/etc/server.conf"}));
}

TEST_F(EntryPointTest, ShellCommandInADirectory) {
  elf("bin/sh", {});
  elf("usr/bin/node", {});
  file("app/server.js", "x");
  file("app/package.json", "{}");
  EXPECT_EQ(reads({"/bin/sh", "-ec", "cd /app && exec node --max-old-space-size=1 server"}),
            (Paths{"/bin/sh", "/usr/bin/node", "/app/server.js", "/app/package.json"}));
}

TEST_F(EntryPointTest, NodePackageMainAndNpm) {
  elf("usr/bin/node", {});
  elf("bin/sh", {});
  program("usr/lib/npm/bin/npm", "#!/usr/bin/node\n");
  link("usr/bin/npm", "../lib/npm/bin/npm");
  file("app/package.json", R"({"scripts":{"start":"node lib"}})");
  file("app/lib/package.json", R"({"main":"start"})");
  file("app/lib/start.js", "x");
  config_.working_dir = "/app";
  EXPECT_EQ(reads({"npm", "start"}),
            (Paths{"/usr/lib/npm/bin/npm", "/usr/bin/node", "/app/package.json", "/bin/sh",
                   "/app/lib/package.json", "/app/lib/start.js"}));
}

TEST_F(EntryPointTest, PythonModule) {
  elf("usr/bin/python3.11", {});
  link("usr/bin/python3", "python3.11");
  file("srv/lib/a/b/__init__.py", "");
  file("srv/lib/a/b/__main__.py", "");
  config_.env = {"PYTHONPATH=/none:/srv/lib"};
  EXPECT_EQ(reads({"python3", "-u", "-m", "a.b"}),
            (Paths{"/usr/bin/python3.11", "/srv/lib/a/b/__init__.py", "/srv/lib/a/b/__main__.py"}));
}

TEST_F(EntryPointTest, JavaAndWrappers) {
  elf("sbin/tini", {});
  elf("opt/jdk/bin/java", {});
  elf("opt/jdk/lib/server/libjvm.so", {});
  file("app.jar", "x");
  EXPECT_EQ(
      reads({"tini", "-g", "--", "/opt/jdk/bin/java", "-Xmx1g", "-jar", "/app.jar"}),
      (Paths{"/sbin/tini", "/opt/jdk/bin/java", "/opt/jdk/lib/server/libjvm.so", "/app.jar"}));
}

TEST_F(EntryPointTest, NothingToRun) {
  file("etc/passwd", "x");
  link("loop", "loop");
  EXPECT_EQ(reads({"/loop", "/missing"}), (Paths{"/etc/passwd"}));
}

// Programs that name each other for ever end.
TEST_F(EntryPointTest, Circles) {
  program("a", "#!/b\n");
  program("b", "#!/a\n");
  EXPECT_EQ(reads({"/a"}), (Paths{"/a", "/b"}));
}

}  // namespace
}  // namespace pagein::startup
