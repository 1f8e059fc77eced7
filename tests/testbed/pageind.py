"""Runs build/bin/pageind under a service manager of ours, so that tests can crash, upgrade and restart it."""

import copy
import os
import pathlib
import urllib.request

from testbed import build_dir, run, sweep, toml_text
from testbed.process import Process, wait_until
from testbed.service_manager import ServiceManager, listen_fds_command


class Pageind:
    """One node daemon. Confined to the thread that made it.

    config: a nested dict, written as TOML over defaults(folder).  program: another binary than the built one.
    metrics: "host:port" or socket path for scrape(), default what `config` says under metrics.address.
    folder: keep state there instead of in a temporary folder.
    """

    def __init__(self, config=None, program=None, folder=None, env=None):
        self._overrides = config or {}
        self._program = pathlib.Path(program) if program else build_dir.program("pageind")
        self._given_folder = pathlib.Path(folder) if folder else None
        self._env = env or {}
        self._process = None
        self.folder = None
        self.manager = None
        self.config = None

    @staticmethod
    def missing():
        return build_dir.missing("pageind") or (None if os.geteuid() == 0 else "pageind needs root")

    def __enter__(self):
        self.folder = self._given_folder or run.new_dir("pid")
        self.config = _merge(defaults(self.folder), self._overrides)
        self.manager = ServiceManager(self.folder / "notify")
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        """Stops the daemon, closes the stored descriptors and unmounts what is left of its mounts."""
        if self._process:
            self._process.stop()
        self.manager.close()
        sweep.unmount_below(self.folder)
        if self._given_folder is None:
            run.remove_dir(self.folder)

    @property
    def address(self):
        """The snapshotter's socket, for containerd's proxy_plugins."""
        return self.config["snapshotter"]["address"]

    @property
    def control(self):
        """The control socket, for `pagein --address`."""
        return self.config["control"]["address"]

    @property
    def pid(self):
        return self._process.pid

    def running(self):
        return self._process is not None and self._process.running()

    def start(self, timeout=30):
        """Starts the daemon with the stored descriptors, and returns when it has said READY=1."""
        config_path = self.folder / "config.toml"
        config_path.write_text(toml_text.dumps(self.config))
        self.manager.begin_start()
        fds, names = self.manager.hand_over()
        argv, environment = listen_fds_command([self._program, "--config", config_path], fds, names)
        environment.update(self._env)
        environment["NOTIFY_SOCKET"] = self.manager.socket_path
        try:
            self._process = Process(argv, self.folder / "log", env=environment, pass_fds=fds).start()
        finally:
            for fd in fds:
                os.close(fd)
        self._process.wait_ready(self.manager.is_ready, timeout, "pageind says READY=1")

    def stop(self):
        """SIGTERM, as `systemctl stop`; returns the exit code. Stored descriptors stay for the next start."""
        return self._process.stop()

    def kill9(self):
        """A crash. Stored descriptors stay."""
        self._process.kill9()

    def restart(self):
        self.stop()
        self.start()

    def log_text(self):
        return self._process.log_text()

    def wait_log(self, text, timeout=20):
        wait_until(lambda: text in self.log_text(), timeout, f"pageind logs {text!r}")

    def metrics(self):
        """Scrapes the metrics page: {"name{labels}": value}."""
        url = f"http://{self.config['metrics']['address']}/metrics"
        with urllib.request.urlopen(url, timeout=10) as reply:  # loopback
            return parse_metrics(reply.read().decode())

    def metric(self, name):
        """Sum of a metric over its label sets; 0 if it is not there."""
        return sum(value for key, value in self.metrics().items() if key.split("{")[0] == name)


def defaults(folder):
    """A configuration that keeps everything in the folder."""
    return {
        "root": str(folder / "root"),
        "snapshotter": {"address": str(folder / "snap.sock")},
        "control": {"address": str(folder / "ctl.sock")},
    }


def parse_metrics(text):
    """Prometheus text format to {"name{labels}": value}."""
    result = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            key, _, value = line.rpartition(" ")
            result[key] = float(value)
    return result


def _merge(base, over):
    result = copy.deepcopy(base)
    for name, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(name), dict):
            result[name] = _merge(result[name], value)
        else:
            result[name] = copy.deepcopy(value)
    return result
