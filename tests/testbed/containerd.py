"""Debian's containerd and runc, apart from the machine's own: own root, state, socket and cgroup parent."""

import contextlib
import hashlib
import itertools
import json
import os
import pathlib
import shutil

from testbed import run, sweep
from testbed.process import Process, TestbedError, find_program, run_command, wait_until

_container_ids = itertools.count(1)

# Not needed by any test, and each scans or loads something at start.
_DISABLED = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
             "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
             "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
             "io.containerd.tracing.processor.v1.otlp"]


class CtrError(TestbedError):
    """`ctr` failed; `output` has what it wrote."""

    def __init__(self, message, output):
        super().__init__(message)
        self.output = output


class Containerd:
    """One containerd. Confined to the thread that made it.

    snapshotters: {name: unix socket path} of proxy snapshot plugins (the socket may appear later).
    cri: keep the CRI plugin, as kubelet would use it.  extra_config: TOML text appended to the configuration.
    insecure: registries ("host:port") to speak plain HTTP with; loopback ones are known without it.
    """

    def __init__(self, snapshotters=None, cri=False, extra_config="", namespace="testbed", insecure=()):
        self.snapshotters = dict(snapshotters or {})
        self.namespace = namespace
        self._cri = cri
        self._extra_config = extra_config
        self._insecure = list(insecure)
        self._folder = None
        self._process = None

    @staticmethod
    def missing():
        """Why containerd cannot run here, or None."""
        if os.geteuid() != 0:
            return "containerd needs root"
        for program in ("containerd", "ctr", "runc"):
            if not find_program(program):
                return f"{program} is not installed"
        return None

    def __enter__(self):
        self._folder = run.new_dir("ctd")
        for host in self._insecure:
            self.trust_insecure(host)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        run.remove_dir(self._folder)

    @property
    def address(self):
        return str(self._folder / "c.sock")

    @property
    def root(self):
        return self._folder / "root"

    @property
    def hosts_dir(self):
        """certs.d-like folder of hosts.toml files; given to every pull."""
        return self._folder / "hosts"

    @property
    def pid(self):
        return self._process.pid

    def trust_insecure(self, host):
        self.write_hosts(host, f'server = "http://{host}"\n[host."http://{host}"]\n'
                               'capabilities = ["pull", "resolve", "push"]\n')

    def trust_ca(self, host, ca_path):
        self.write_hosts(host, f'server = "https://{host}"\n[host."https://{host}"]\n'
                               f'capabilities = ["pull", "resolve", "push"]\nca = "{ca_path}"\n')

    def write_hosts(self, host, text):
        folder = self.hosts_dir / host
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hosts.toml").write_text(text)

    def start(self):
        """Starts containerd (again, on the same root)."""
        config = self._folder / "config.toml"
        config.write_text(self._config())
        self._process = Process([find_program("containerd"), "--config", config], self._folder / "log").start()
        self._process.wait_ready(self._answers, 30, "containerd answers")

    def stop(self):
        """Ends all containers, containerd and its shims, and unmounts what they left."""
        if self._process is None:
            return
        if self._process.running():
            with contextlib.suppress(TestbedError):
                self._remove_all_containers()
        self._process.stop(timeout=10)
        self._process = None
        sweep.kill_processes_of(self._folder)
        sweep.unmount_below(self._folder)
        sweep.remove_cgroups(self.namespace)

    def kill9(self):
        """Crash: containers and shims live on; start() again finds them."""
        self._process.kill9()

    def ctr(self, *args, check=True, timeout=300):
        """Runs `ctr` against this containerd; CompletedProcess, or CtrError if it fails and check."""
        argv = ["ctr", "-a", self.address, "-n", self.namespace, *args]
        done = run_command(argv, timeout=timeout, check=False)
        if check and done.returncode != 0:
            output = done.stdout + done.stderr
            raise CtrError(f"ctr {' '.join(map(str, args))} ended with {done.returncode}:\n{output}", output)
        return done

    def pull(self, ref, snapshotter="overlayfs", user=None, flags=(), timeout=600):
        """`ctr image pull`; user is "name:password"."""
        args = ["images", "pull", "--snapshotter", snapshotter]
        if self.hosts_dir.is_dir():
            args += ["--hosts-dir", self.hosts_dir]
        if user:
            args += ["--user", user]
        return self.ctr(*args, *flags, ref, timeout=timeout)

    def run(self, ref, args=(), snapshotter="overlayfs", env=None, flags=(), timeout=120):
        """Runs a container to its end and returns its standard output; CtrError if it fails."""
        name = new_container_id()
        done = self.ctr("run", "--rm", *self._run_flags(snapshotter, env), *flags, ref, name, *args, timeout=timeout)
        return done.stdout

    def run_detached(self, ref, args=(), snapshotter="overlayfs", env=None, flags=()):
        """Starts a container on the host's network, and returns its id; its output goes nowhere."""
        name = new_container_id()
        self.ctr("run", "--detach", "--net-host", *self._run_flags(snapshotter, env), *flags, ref, name, *args)
        return name

    def exec(self, container, args, timeout=60):
        """Runs a command in a running container; its standard output."""
        return self.ctr("tasks", "exec", "--exec-id", new_container_id(), container, *args, timeout=timeout).stdout

    def kill(self, container):
        """Ends a container and deletes its task, container and snapshot; it need not run any more."""
        self.ctr("tasks", "kill", "-s", "SIGKILL", "-a", container, check=False)
        wait_until(lambda: self.ctr("tasks", "delete", "--force", container, check=False).returncode == 0
                   or container not in self.tasks(), 20, f"task {container} is deleted")
        self.ctr("containers", "delete", container, check=False)

    def tasks(self):
        """{container: (pid, status)}"""
        lines = self.ctr("tasks", "list").stdout.splitlines()[1:]
        return {name: (int(pid), status) for name, pid, status in (line.split() for line in lines)}

    def remove_image(self, ref):
        """Removes an image and collects garbage before it returns."""
        self.ctr("images", "remove", "--sync", ref)

    def snapshots(self, snapshotter="overlayfs"):
        """{key: (parent, kind)}"""
        result = {}
        for line in self.ctr("snapshots", "--snapshotter", snapshotter, "list").stdout.splitlines()[1:]:
            words = line.split()
            result[words[0]] = (words[1] if len(words) == 3 else "", words[-1])
        return result

    def wait_for_snapshotter(self, snapshotter, timeout=60):
        """Until a proxy snapshotter that was restarted is reached again: containerd backs off for a while."""
        wait_until(lambda: self.ctr("snapshots", "--snapshotter", snapshotter, "list", check=False).returncode == 0,
                   timeout, f"containerd reaches {snapshotter}")

    def plugin_status(self, plugin_id):
        for line in self.ctr("plugins", "list").stdout.splitlines()[1:]:
            words = line.split()
            if words[1] == plugin_id:
                return words[-1]
        return None

    def content_digests(self):
        return self.ctr("content", "list", "--quiet").stdout.split()

    def image_target(self, ref):
        """Digest of what an image reference points at."""
        for line in self.ctr("images", "list").stdout.splitlines()[1:]:
            words = line.split()
            if words[0] == ref:
                return words[2]
        return None

    def inspect(self, container):
        return json.loads(self.ctr("containers", "info", container).stdout)

    def content(self, digest):
        """A small blob of the content store, as an object."""
        return json.loads(self.ctr("content", "get", digest).stdout)

    def chain_id(self, ref):
        """The name of the topmost snapshot of an image: the chain ID of all its layers."""
        document = self.content(self.image_target(ref))
        if "manifests" in document:
            document = self.content(next(entry["digest"] for entry in document["manifests"]
                                         if entry.get("platform", {}).get("os") == "linux"))
        chain = None
        for diff_id in self.content(document["config"]["digest"])["rootfs"]["diff_ids"]:
            both = f"{chain} {diff_id}".encode()
            chain = f"sha256:{hashlib.sha256(both).hexdigest()}" if chain else diff_id
        return chain

    @contextlib.contextmanager
    def mounted_image(self, ref, snapshotter="overlayfs"):
        """Mounts an image read-only below this containerd's folder, for comparing trees.

        `ctr images mount` of 1.6 always uses the default snapshotter; so others are mounted by a view and mount(8).
        """
        name = new_container_id()
        point = self._folder / f"mnt-{name}"
        point.mkdir()
        key = str(point) if snapshotter == "overlayfs" else name
        try:
            if snapshotter == "overlayfs":
                self.ctr("images", "mount", ref, point)
            else:
                run_command(["sh", "-ec", self._snapshot("view", snapshotter, key, self.chain_id(ref), point)])
            yield pathlib.Path(point)
        finally:
            sweep.unmount_at_or_below(point)
            self.ctr("snapshots", "--snapshotter", snapshotter, "rm", key, check=False)
            shutil.rmtree(point, ignore_errors=True)

    @contextlib.contextmanager
    def mounted_container_root(self, ref, snapshotter="overlayfs", chain=None):
        """Mounts what a new container of an image would have as its root, writable, below this containerd's folder.

        chain: the image's chain ID, where the caller knows it and counts the time.
        """
        name = new_container_id()
        point = self._folder / f"root-{name}"
        point.mkdir()
        try:
            run_command(["sh", "-ec", self._snapshot("prepare", snapshotter, name, chain or self.chain_id(ref), point)])
            yield pathlib.Path(point)
        finally:
            sweep.unmount_at_or_below(point)
            self.ctr("snapshots", "--snapshotter", snapshotter, "rm", name, check=False)
            shutil.rmtree(point, ignore_errors=True)

    def _snapshot(self, kind, snapshotter, key, parent, point):
        """Makes a snapshot ("view", "prepare") that the collector leaves alone; the commands that mount it at `point`."""
        for attempt in range(5):
            command = self.ctr("snapshots", "--snapshotter", snapshotter, kind, "--target", point, key, parent).stdout
            # A collection that runs just now may take the snapshot before it is labelled.
            labelled = self.ctr("snapshots", "--snapshotter", snapshotter, "label", key, "containerd.io/gc.root=view",
                                check=False)
            if labelled.returncode == 0:
                return command
        raise CtrError(f"{kind} {key} was collected {attempt + 1} times", labelled.stderr)

    def log_text(self):
        return self._process.log_text()

    def _remove_all_containers(self):
        for container in self.tasks():
            self.ctr("tasks", "kill", "-s", "SIGKILL", "-a", container, check=False)
        for container in self.ctr("containers", "list", "--quiet").stdout.split():
            self.kill(container)

    def _answers(self):
        if not os.path.exists(self.address):
            return False
        return self.ctr("version", check=False, timeout=10).returncode == 0

    def _run_flags(self, snapshotter, env):
        flags = ["--snapshotter", snapshotter, "--runc-binary", find_program("runc"),
                 "--env", f"{run.MARK_VARIABLE}={run.run_id()}"]
        for name, value in (env or {}).items():
            flags += ["--env", f"{name}={value}"]
        return flags

    def _config(self):
        disabled = list(_DISABLED)
        if not self._cri:
            disabled.append("io.containerd.grpc.v1.cri")
        lines = ["version = 2", f'root = "{self.root}"', f'state = "{self._folder / "state"}"',
                 f"disabled_plugins = {json.dumps(disabled)}",
                 "[grpc]", f'  address = "{self.address}"',
                 "[debug]", '  level = "info"',
                 '[plugins."io.containerd.gc.v1.scheduler"]', '  startup_delay = "100ms"']
        for name, socket_path in self.snapshotters.items():
            lines += [f"[proxy_plugins.{name}]", '  type = "snapshot"', f'  address = "{socket_path}"']
        return "\n".join(lines) + "\n" + self._extra_config


def new_container_id():
    return f"{run.CONTAINER_PREFIX}{run.run_id()}-{next(_container_ids)}"


def drop_caches():
    """Writes dirty pages and drops the page, dentry and inode caches of the whole machine."""
    os.sync()
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3\n")
