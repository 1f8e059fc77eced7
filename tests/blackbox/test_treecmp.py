"""compare_trees sees every difference that matters, and none between equal trees."""

import os
import shutil
import subprocess

import pytest

from testbed.treecmp import Ignore, compare_trees


def make_tree(top):
    top.mkdir()
    (top / "dir").mkdir()
    (top / "dir/file").write_bytes(b"content" * 1000)
    os.link(top / "dir/file", top / "link")
    os.symlink("dir/file", top / "symlink")
    os.mkfifo(top / "fifo")
    with open(os.path.join(os.fsencode(top), b"bad\xff\nname"), "wb"):
        pass
    if os.geteuid() == 0:
        os.mknod(top / "null", 0o20666, os.makedev(1, 3))
        os.setxattr(top / "dir/file", "user.key", b"value")


@pytest.fixture
def trees(tmp_path):
    make_tree(tmp_path / "a")
    subprocess.run(["cp", "-a", tmp_path / "a", tmp_path / "b"], check=True)
    return tmp_path / "a", tmp_path / "b"


def test_equal_trees(trees):
    assert compare_trees(*trees) == []


CHANGES = {
    "content": ("dir/file: content", lambda top: overwrite_same_times(top / "dir/file")),
    "missing": ("fifo: only in left", lambda top: os.unlink(top / "fifo")),
    "extra": ("new: only in right", lambda top: (top / "new").touch()),
    "mode": ("dir: mode '40755' != '40700'", lambda top: os.chmod(top / "dir", 0o700)),
    "owner": ("fifo: uid 0 != 5", lambda top: os.chown(top / "fifo", 5, 0)),
    "mtime": ("fifo: mtime_ns", lambda top: os.utime(top / "fifo", (0, 0))),
    "xattr": ("dir/file: xattrs", lambda top: os.removexattr(top / "dir/file", "user.key")),
    "symlink": ("symlink: target", lambda top: replace(top / "symlink", lambda path: os.symlink("x", path))),
    "type": ("symlink: type 120000 != 40000", lambda top: replace(top / "symlink", os.mkdir)),
    "rdev": ("null: rdev", lambda top: replace(top / "null", lambda path: os.mknod(path, 0o20666, os.makedev(1, 5)))),
    "unlinked": ("link: hard link of", lambda top: replace(top / "link", lambda p: shutil.copy2(top / "dir/file", p))),
    "bad name": ("bad\\xff\\nname: size 0 != 1", lambda top: append(os.path.join(os.fsencode(top), b"bad\xff\nname"))),
}


def replace(path, make):
    os.unlink(path)
    make(path)


def append(path):
    with open(path, "ab") as out:
        out.write(b"x")


def overwrite_same_times(path):
    before = path.stat()
    path.write_bytes(b"CONTENT" + path.read_bytes()[7:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("change", CHANGES)
def test_difference_is_named(trees, change):
    expected, apply = CHANGES[change]
    apply(trees[1])
    assert any(line.startswith(expected) for line in compare_trees(*trees)), compare_trees(*trees)


def test_limit_and_ignore(trees):
    os.utime(trees[1] / "dir", (0, 0))
    for number in range(9):
        (trees[1] / f"extra{number}").touch()
    assert len(compare_trees(*trees, limit=3)) == 3
    assert not any(line.startswith("dir:") for line in compare_trees(*trees, ignore=Ignore(directory_mtime=True)))
