"""Identity of this test run: one base folder and one environment mark, by which the sweep finds what is left."""

import atexit
import itertools
import os
import pathlib
import shutil
import threading

from testbed import disk

MARK_VARIABLE = "PAGEIN_TESTBED_RUN"
BASE_PREFIX = "pgtb."
NETNS_PREFIX = "pgtb"
CONTAINER_PREFIX = "tb"

_counter = itertools.count(1)
_lock = threading.Lock()
_base = None


def parent_dir():
    """The folder that holds every run's base; must be a disk filesystem and short (unix socket paths are <= 107)."""
    return pathlib.Path(os.environ.get("PAGEIN_TEST_TMP", "/var/tmp"))


def run_id():
    """The id of this run: the pid of the process that owns it."""
    return str(os.getpid())


def base_dir():
    """The base folder of this run, made at the first call (maybe as a disk of its own) and removed at exit."""
    global _base
    with _lock:
        if _base is None or _base[0] != os.getpid():
            path = parent_dir() / f"{BASE_PREFIX}{run_id()}"
            path.mkdir(mode=0o755, parents=True, exist_ok=True)
            if disk.wanted(path):
                disk.mount(path)
            _base = (os.getpid(), path)
            atexit.register(_remove_base, os.getpid(), path)
        return _base[1]


def new_dir(name):
    """A new, empty folder in this run's base; the caller removes it with remove_dir()."""
    path = base_dir() / f"{name}{next(_counter)}"
    path.mkdir(mode=0o755)
    return path


def remove_dir(path):
    """Removes a folder tree, but never crosses into a mount: a mount below it is an error of the caller."""
    path = pathlib.Path(path)
    mounted = mounts_at_or_below(path)
    if mounted:
        raise RuntimeError(f"not removing {path}: still mounted: {mounted}")
    shutil.rmtree(path, ignore_errors=False)


def mounts_at_or_below(path):
    """Mount points at or below path, as /proc/self/mountinfo shows them."""
    prefix = os.fsencode(str(path))
    found = []
    with open("/proc/self/mountinfo", "rb") as mountinfo:
        for line in mountinfo:
            point = unescape_mount(line.split(b" ")[4])
            if point == prefix or point.startswith(prefix + b"/"):
                found.append(os.fsdecode(point))
    return found


def mounts_below(path):
    """The same, without path itself."""
    return [point for point in mounts_at_or_below(path) if point != str(path)]


def unescape_mount(field):
    """Undoes the octal escapes of /proc/*/mountinfo."""
    out = bytearray()
    i = 0
    while i < len(field):
        if field[i:i + 1] == b"\\" and i + 4 <= len(field):
            out.append(int(field[i + 1:i + 4], 8))
            i += 4
        else:
            out.append(field[i])
            i += 1
    return bytes(out)


def marked_environment(extra=None):
    """The environment for a child process: ours, plus the mark of this run, plus extra."""
    env = dict(os.environ)
    env[MARK_VARIABLE] = run_id()
    env.update(extra or {})
    return env


def _remove_base(pid, path):
    if os.getpid() == pid and path.exists() and not mounts_below(path):
        disk.unmount(path)
        shutil.rmtree(path, ignore_errors=True)
