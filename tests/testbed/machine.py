"""A machine under the real systemd: namespaces over the host's own root filesystem, with a layer for its changes.

systemd is process 1 there, with its own /run, cgroups and mounts; the network is the host's. Only the units that a test
starts run, and what they need.
"""

import json
import os
import pathlib

from testbed import run, sweep
from testbed.process import Process, find_program, run_command, wait_until

SYSTEMD = "/lib/systemd/systemd"
# They would change the host's kernel, wait for its hardware, or want its disks.
_MASKED = ["systemd-sysctl", "systemd-modules-load", "systemd-binfmt", "systemd-udevd", "systemd-udev-trigger",
           "systemd-udev-settle", "systemd-hwdb-update", "systemd-remount-fs", "systemd-random-seed",
           "systemd-timesyncd", "systemd-pstore", "systemd-machine-id-commit", "systemd-network-generator",
           "kmod-static-nodes", "modprobe@", "keyboard-setup", "console-setup", "apparmor", "networking",
           "systemd-firstboot", "systemd-repart", "systemd-logind", "getty@", "dbus"]
_MASKED_OTHER = ["getty.target", "dbus.socket", "dev-hugepages.mount", "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount",
                 "sys-kernel-config.mount", "sys-fs-fuse-connections.mount", "proc-sys-fs-binfmt_misc.automount"]
_DEVICES = ["null", "zero", "full", "random", "urandom", "tty", "fuse", "loop-control"]

# Joins a cgroup of its own in every hierarchy, then makes the namespaces.
_OUTER = """
set -e
for h in %(hierarchies)s; do
  mkdir -p $h/%(cgroup)s
  [ ! -e $h/cpuset.cpus ] || { cat $h/cpuset.cpus > $h/%(cgroup)s/cpuset.cpus; cat $h/cpuset.mems > $h/%(cgroup)s/cpuset.mems; }
  echo $$ > $h/%(cgroup)s/cgroup.procs
done
exec unshare --pid --fork --mount --cgroup --uts --ipc --kill-child=KILL sh -c "$1"
"""
_INNER = """
set -e
mount --make-rprivate /
mount -t overlay overlay -o lowerdir=/,upperdir=%(folder)s/upper,workdir=%(folder)s/work %(root)s
cd %(root)s
mount -t proc proc proc
mount -t sysfs -o ro sysfs sys
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount -t tmpfs -o mode=755 tmpfs dev
mkdir dev/pts dev/shm
for d in %(devices)s; do [ ! -e /dev/$d ] || cp -a /dev/$d dev/; done
for l in /dev/loop[0-9]*; do [ ! -e $l ] || cp -a $l dev/; done
mount -t devpts -o newinstance,ptmxmode=666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
%(cgroup_mounts)s
for d in %(disks)s; do mkdir -p var/lib/$d; mount --bind %(folder)s/disk/$d var/lib/$d; done
# Not chroot alone: what enters a container of the machine would find the host's root.
pivot_root . mnt
umount -l mnt
mount --make-rshared /
exec env -i container=pagein PATH=/usr/sbin:/usr/bin:/sbin:/bin PAGEIN_TESTBED_RUN=%(run)s \
  chroot / %(systemd)s --system --unit=multi-user.target --log-target=journal --show-status=0
"""


class Machine:
    """One machine. boot() it; what is written stays over a power_off(). Confined to the thread that made it.

    disks: names below /var/lib that lie on the disk itself, not on overlayfs (image stores cannot).
    """

    def __init__(self, disks=("pagein", "containerd")):
        self._disks = list(disks)
        self._process = None
        self._init = None
        self.folder = None

    @staticmethod
    def missing():
        """Why it cannot run here, or None."""
        if os.geteuid() != 0:
            return "a machine under systemd needs root"
        if not os.access(SYSTEMD, os.X_OK):
            return "systemd is not installed"
        if not find_program("unshare") or not find_program("nsenter"):
            return "unshare and nsenter are not installed"
        if not _hierarchies():
            return "no cgroups are mounted"
        return None

    def __enter__(self):
        self.folder = run.new_dir("machine")
        for name in ["upper", "work", "root"] + [f"disk/{disk}" for disk in self._disks]:
            (self.folder / name).mkdir(parents=True)
        units = self.file("/etc/systemd/system")
        units.mkdir(parents=True)
        for name in [f"{unit}.service" for unit in _MASKED] + _MASKED_OTHER:
            (units / name).symlink_to("/dev/null")
        # The units that the host starts are no business of ours.
        for wants in pathlib.Path("/etc/systemd/system").glob("*.wants"):
            for unit in wants.iterdir():
                self.hide(unit)
        return self

    def __exit__(self, *_):
        self.power_off()
        sweep.unmount_below(self.folder)
        run.remove_dir(self.folder)

    def file(self, path):
        """Where a file of the machine's lies that a test writes before boot()."""
        return self.folder / "upper" / str(path).lstrip("/")

    def write(self, path, text):
        self.file(path).parent.mkdir(parents=True, exist_ok=True)
        self.file(path).write_text(text)

    def hide(self, path):
        """Makes a file of the host's absent: an overlay whiteout."""
        self.file(path).parent.mkdir(parents=True, exist_ok=True)
        os.mknod(self.file(path), 0o600 | 0o020000, os.makedev(0, 0))

    def boot(self):
        """Starts systemd, and returns when multi-user.target is reached."""
        names = {"folder": self.folder, "root": self.folder / "root", "disks": " ".join(self._disks),
                 "devices": " ".join(_DEVICES), "systemd": SYSTEMD, "run": run.run_id(), "cgroup": self._cgroup(),
                 "hierarchies": " ".join(path for path, _ in _hierarchies()),
                 "cgroup_mounts": "\n".join(_cgroup_mount(*pair) for pair in _hierarchies())}
        argv = ["sh", "-c", _OUTER % names, "sh", _INNER % names]
        self._process = Process(argv, self.folder / "console").start()
        self._process.wait_ready(self._is_up, 60, "systemd reaches multi-user.target")

    def power_off(self):
        """As if the plug were pulled: every process of it is killed, mounts are gone; files stay."""
        if self._process is None:
            return
        self._process.kill()  # unshare, and with it process 1 and all below
        self._process = self._init = None
        sweep.kill_all(lambda: sweep.processes_rooted_in(self.folder))
        wait_until(self._remove_cgroups, 20, "the machine's cgroups are empty")

    def run(self, *argv, check=True, timeout=120):
        """Runs a command on the machine; CompletedProcess."""
        enter = ["nsenter", "-t", str(self._init), "-m", "-p", "-C", "-u", "-i", "-r", "-w", "--"]
        return run_command([*enter, *map(str, argv)], check=check, timeout=timeout)

    def properties(self, unit, *names):
        """`systemctl show` of a unit: {name: value}."""
        lines = self.run("systemctl", "show", "-p", ",".join(names), unit).stdout.splitlines()
        return dict(line.split("=", 1) for line in lines)

    def journal(self, unit):
        """What a unit logged, as text."""
        return self.run("journalctl", "-u", unit, "-o", "cat", "--no-pager").stdout

    def journal_entries(self, unit):
        lines = self.run("journalctl", "-u", unit, "-o", "json", "--no-pager").stdout.splitlines()
        return [json.loads(line) for line in lines]

    def _is_up(self):
        self._init = self._init or _child_named("systemd", self._process.pid)
        if self._init is None:
            return False
        done = self.run("systemctl", "is-active", "multi-user.target", check=False)
        return done.stdout.strip() == "active"

    def _cgroup(self):
        return f"{run.CONTAINER_PREFIX}{run.run_id()}-{self.folder.name}"

    def _remove_cgroups(self):
        sweep.remove_cgroups(self._cgroup())
        return not any(os.path.exists(f"{path}/{self._cgroup()}") for path, _ in _hierarchies())


def _hierarchies():
    """(mount point, mount options for the same hierarchy) of the host's cgroups."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as mountinfo:
        for line in mountinfo:
            fields = line.split()
            kind, options = fields[fields.index("-") + 1], fields[-1]
            if kind == "cgroup2":
                found.append((fields[4], "-t cgroup2"))
            elif kind == "cgroup":
                known = [word for word in options.split(",") if word not in ("rw", "ro") and "=" not in word]
                named = [word for word in options.split(",") if word.startswith("name=")]
                found.append((fields[4], "-t cgroup -o " + ",".join(known or ["none"] + named)))
    return [pair for pair in found if pair[0].startswith("/sys/fs/cgroup")]


def _cgroup_mount(point, options):
    inside = point.lstrip("/")
    return f"mkdir -p {inside}; mount {options} cgroup {inside}"


def _child_named(name, pid):
    """The first descendant of pid whose command is `name`, or None."""
    for child in _children(pid):
        command = pathlib.Path(f"/proc/{child}/comm")
        try:
            if command.read_text().strip() == name:
                return child
        except OSError:
            continue
        found = _child_named(name, child)
        if found:
            return found
    return None


def _children(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
