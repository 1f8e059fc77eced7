"""Runs build/bin/pageind under a service manager of ours, so that tests can crash, upgrade and restart it."""

import copy
import http.client
import json
import os
import pathlib
import socket

from testbed import build_dir, run, sweep, toml_text
from testbed.process import Process, TestbedError, wait_until
from testbed.service_manager import ServiceManager, listen_fds_command


class Pageind:
    """One node daemon. Confined to the thread that made it.

    config: a nested dict, written as TOML over defaults(folder).  program: another binary than the built one.
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
        return self.config["socket"]

    @property
    def control(self):
        """The control socket, for `pagein COMMAND --socket`."""
        return self.config["control"]

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
        return parse_metrics(self.get("/metrics"))

    def get(self, path):
        """GET on the control socket; the body as text."""
        connection = _UnixConnection(self.control)
        try:
            connection.request("GET", path)
            reply = connection.getresponse()
            body = reply.read().decode()
            if reply.status != 200:
                raise TestbedError(f"GET {path} answered {reply.status}: {body}")
            return body
        finally:
            connection.close()

    def call(self, method, path, body):
        """A call on the control socket with a JSON body: (status, answer as text)."""
        connection = _UnixConnection(self.control)
        try:
            connection.request(method, path, body=json.dumps(body))
            reply = connection.getresponse()
            return reply.status, reply.read().decode()
        finally:
            connection.close()

    def status(self):
        """What `pagein status --json` shows."""
        return json.loads(self.get("/v1/status"))

    def complete(self):
        """Whether every layer of every mounted image is complete."""
        layers = [layer for image in self.status()["images"] for layer in image["layers"]]
        return bool(layers) and all(layer["complete"] for layer in layers)

    def metric(self, name):
        """Sum of a metric over its label sets; 0 if it is not there."""
        return sum(value for key, value in self.metrics().items() if key.split("{")[0] == name)


def defaults(folder):
    """A configuration that keeps everything in the folder."""
    return {
        "root": str(folder / "root"),
        "socket": str(folder / "snap.sock"),
        "control": str(folder / "ctl.sock"),
    }


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("pagein", timeout=60)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


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
