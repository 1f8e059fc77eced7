"""Debian's docker-registry on loopback or inside a network namespace."""

import json
import pathlib

from testbed import access_log, run
from testbed.htpasswd import write_htpasswd
from testbed.process import Process, TestbedError, find_program, free_port, is_listening, run_command


class Registry:
    """One registry process; stop() and start() again keep port and storage. Confined to the thread that made it.

    users: {name: password}, basic authentication.  token: a started TokenServer (then `users` must be None).
    ca: a PrivateCa, serves TLS.  storage: a folder to serve (kept); None is a temporary one.
    client_ca: a PrivateCa whose certificates clients must show (with `ca`).
    netns, host: run inside that namespace on that address.  extra: more sections of the registry's configuration.
    The registry caches blob descriptors in memory: after changing a file on disk, restart() it if sizes changed.
    """

    def __init__(self, users=None, token=None, ca=None, storage=None, netns=None, host="127.0.0.1", port=None,
                 extra=None, client_ca=None):
        if users is not None and token is not None:
            raise ValueError("a registry has one kind of authentication")
        self.users = users
        self.host = host
        self.port = port
        self._token = token
        self._ca = ca
        self._client_ca = client_ca
        self._netns = netns
        self._extra = extra or {}
        self._storage = pathlib.Path(storage) if storage else None
        self._folder = None
        self._process = None

    @staticmethod
    def missing():
        """Why a registry cannot run here, or None."""
        return None if find_program("docker-registry") else "docker-registry is not installed"

    def __enter__(self):
        self._folder = run.new_dir("registry")
        if self._storage is None:
            self._storage = self._folder / "storage"
        self._storage.mkdir(parents=True, exist_ok=True)
        if self.users is not None:
            write_htpasswd(self._folder / "htpasswd", self.users)
        if self._ca is not None:
            self._cert, self._key = self._ca.issue(f"registry-{id(self)}", (self.host, "localhost"))
        try:
            self._start_first_time()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        self.stop()
        run.remove_dir(self._folder)

    def _start_first_time(self):
        for attempt in range(5):
            if attempt or self.port is None:
                self.port = free_port() if not self._netns else 5000
            try:
                return self.start()
            except TestbedError:
                if attempt == 4 or "address already in use" not in self.log_text():
                    raise

    @property
    def address(self):
        """host:port, the first part of image references."""
        return f"{self.host}:{self.port}"

    @property
    def url(self):
        return f"{'https' if self._ca else 'http'}://{self.address}"

    @property
    def storage(self):
        return self._storage

    @property
    def ca_path(self):
        return self._ca.cert_path if self._ca else None

    def ref(self, repository, tag="latest"):
        return f"{self.address}/{repository}:{tag}"

    def start(self):
        """Starts (again) on the same port and storage; returns when it answers."""
        config = self._folder / "config.json"  # JSON is YAML
        config.write_text(json.dumps(self._config(), indent=1))
        self._process = Process([find_program("docker-registry"), "serve", config], self._folder / "log",
                                netns=self._netns, env={"OTEL_TRACES_EXPORTER": "none"}).start()
        try:
            self._process.wait_ready(self._answers, 20, f"registry on {self.address} listens")
        except TestbedError:
            self._process.kill()
            raise

    def stop(self):
        if self._process:
            self._process.stop(timeout=3)
            self._process.kill()
            self._process = None

    def restart(self):
        self.stop()
        self.start()

    def garbage_collect(self, delete_untagged=False):
        """Runs the registry's collector; the registry is stopped meanwhile, as its documentation demands."""
        running = self._process is not None
        self.stop()
        flags = ["--delete-untagged"] if delete_untagged else []
        done = run_command([find_program("docker-registry"), "garbage-collect", *flags, self._folder / "config.json"])
        if running:
            self.start()
        return done.stdout

    def log_text(self):
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def blob_path(self, digest):
        """The blob's file on disk, for tests that corrupt or truncate it."""
        algorithm, _, hexdigest = digest.partition(":")
        return self._storage / "docker/registry/v2/blobs" / algorithm / hexdigest[:2] / hexdigest / "data"

    def mark(self):
        """A position in the access log, for accesses(since=...)."""
        path = self._folder / "log"
        return path.stat().st_size if path.exists() else 0

    def accesses(self, since=0):
        """Finished requests since a mark. A request is logged when its handler ends, shortly after the last byte."""
        with open(self._folder / "log", "rb") as log:
            log.seek(since)
            lines = log.read().decode(errors="replace").splitlines()
        return [access for access in map(access_log.parse_line, lines) if access]

    def bytes_served(self, kind=None, digest=None, since=0):
        return access_log.total_bytes(self.accesses(since), kind, digest)

    def _answers(self):
        if self._netns:
            probe = ["nsenter", f"--net=/run/netns/{self._netns}", "bash", "-c", f"</dev/tcp/{self.host}/{self.port}"]
            return run_command(probe, timeout=5, check=False).returncode == 0
        return is_listening(self.host, self.port)

    def _config(self):
        config = {
            "version": "0.1",
            "log": {"level": "warn", "accesslog": {"disabled": False}},
            "storage": {"filesystem": {"rootdirectory": str(self._storage)}, "delete": {"enabled": True},
                        "cache": {"blobdescriptor": "inmemory"},
                        "maintenance": {"uploadpurging": {"enabled": False}}},
            "http": {"addr": self.address, "secret": "test"},
        }
        if self._ca is not None:
            config["http"]["tls"] = {"certificate": str(self._cert), "key": str(self._key)}
            if self._client_ca is not None:
                config["http"]["tls"]["clientcas"] = [str(self._client_ca.cert_path)]
        if self.users is not None:
            config["auth"] = {"htpasswd": {"realm": "test", "path": str(self._folder / "htpasswd")}}
        if self._token is not None:
            config["auth"] = {"token": {"realm": self._token.realm, "service": self._token.service,
                                        "issuer": self._token.issuer,
                                        "rootcertbundle": str(self._token.root_bundle)}}
        for section, values in self._extra.items():
            config.setdefault(section, {}).update(values)
        return config
