"""Finds, and removes, what a run of the testbed left: processes, mounts, loop devices, namespaces, cgroups, folders.

Everything is recognised as ours by the run's mark (process environment) or by the run's base folder, never by a
program's name. `python3 -m testbed` (in the tests folder) clears what runs that have ended left behind.
"""

import glob
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

from testbed import disk, run


def leftovers(run_id=None):
    """What the run (default: this one) has left behind, as readable lines."""
    run_id = run_id or run.run_id()
    base = run.parent_dir() / f"{run.BASE_PREFIX}{run_id}"
    found = [f"process {pid}: {_command_of(pid)}" for pid in marked_processes(run_id)]
    found += [f"mount {point}" for point in run.mounts_below(base)]
    found += [f"loop device {device} on {file}" for device, file in loop_devices(base)]
    found += [f"network namespace {name}" for name in network_namespaces(run_id)]
    if base.is_dir():
        found += [f"folder {entry}" for entry in sorted(base.iterdir()) if entry.name != "lost+found"]
    return found


def clean(run_id=None):
    """Removes what leftovers() names."""
    run_id = run_id or run.run_id()
    base = run.parent_dir() / f"{run.BASE_PREFIX}{run_id}"
    kill_all(lambda: marked_processes(run_id) + processes_rooted_in(base))
    remove_cgroups(f"*/{run.CONTAINER_PREFIX}{run_id}-*")
    unmount_below(base)
    for device, _ in loop_devices(base):
        subprocess.run(["losetup", "-d", device], check=False)
    for name in network_namespaces(run_id):
        subprocess.run(["ip", "netns", "del", name], check=False)
    if not run.mounts_below(base):
        disk.unmount(base)
        shutil.rmtree(base, ignore_errors=True)


def clean_stale_runs():
    """clean() for every run whose owner process is gone; returns their ids."""
    stale = set()
    for path in glob.glob(str(run.parent_dir() / f"{run.BASE_PREFIX}*")):
        run_id = os.path.basename(path).removeprefix(run.BASE_PREFIX).removesuffix(".img")
        if run_id.isdigit() and not os.path.exists(f"/proc/{run_id}"):
            clean(run_id)
            stale.add(run_id)
    return sorted(stale)


def marked_processes(run_id):
    """Pids, but this process's own, whose environment carries the mark of a run."""
    mark = f"{run.MARK_VARIABLE}={run_id}".encode()
    found = []
    for pid in _pids():
        if pid != os.getpid() and mark in _read(f"/proc/{pid}/environ").split(b"\0") and _alive(pid):
            found.append(pid)
    return found


def processes_rooted_in(folder):
    """Pids of containers whose root filesystem is made of folders below `folder`."""
    needle = os.fsencode(str(folder)) + b"/"
    found = []
    for pid in _pids():
        for line in _read(f"/proc/{pid}/mountinfo").splitlines():
            fields = line.split(b" ")
            if fields[4] == b"/" and needle in line:
                found.append(pid)
    return found


def kill_processes_of(folder):
    """SIGKILL to this run's processes that name `folder` on their command line, and to containers rooted in it."""
    needle = os.fsencode(str(folder))

    def find():
        named = [pid for pid in marked_processes(run.run_id()) if needle in _read(f"/proc/{pid}/cmdline")]
        return named + processes_rooted_in(folder)
    kill_all(find)


def kill_all(find, timeout=10):
    """SIGKILL to what find() returns until it returns nothing."""
    deadline = time.monotonic() + timeout
    pids = find()
    while pids and time.monotonic() < deadline:
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        time.sleep(0.02)
        pids = find()


def unmount_below(folder):
    """Detaches all mounts below folder, deepest first."""
    _unmount(run.mounts_below(folder))


def unmount_at_or_below(folder):
    """The same, and folder itself."""
    _unmount(run.mounts_at_or_below(folder))


def _unmount(points):
    for point in sorted(points, key=len, reverse=True):
        subprocess.run(["umount", "--lazy", "--", point], check=False, stderr=subprocess.DEVNULL)


def loop_devices(folder):
    """(device, backing file) of loop devices on files below folder."""
    found = []
    for path in glob.glob("/sys/block/loop*/loop/backing_file"):
        backing = _read(path).decode(errors="replace").strip()
        if backing.startswith(f"{folder}/"):
            found.append((f"/dev/{path.split('/')[3]}", backing))
    return found


def network_namespaces(run_id):
    """Names of namespaces that the run made."""
    pattern = re.compile(rf"{run.NETNS_PREFIX}{re.escape(run_id)}-\d+")
    folder = pathlib.Path("/run/netns")
    return [entry.name for entry in folder.iterdir() if pattern.fullmatch(entry.name)] if folder.is_dir() else []


def remove_cgroups(pattern):
    """Removes empty cgroups in every hierarchy. pattern: below a hierarchy's top, with * and ?."""
    for top in glob.glob(f"/sys/fs/cgroup/*/{pattern}") + glob.glob(f"/sys/fs/cgroup/{pattern}"):
        for folder, _, _ in os.walk(top, topdown=False):
            try:
                os.rmdir(folder)
            except OSError:
                pass


def _pids():
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(path):
    try:
        return pathlib.Path(path).read_bytes()
    except OSError:
        return b""


def _alive(pid):
    stat = _read(f"/proc/{pid}/stat")
    return bool(stat) and stat.rsplit(b")", 1)[1].split()[0] not in (b"Z", b"X")


def _command_of(pid):
    return _read(f"/proc/{pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
