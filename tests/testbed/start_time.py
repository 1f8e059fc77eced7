"""Measures how long an image takes from "pull" to the first HTTP 200, plainly and by Pagein, each from nothing.

Both start on a fresh containerd with an empty store and with the machine's page cache dropped; only the registry's
own files are read back in before, since a registry that serves many nodes has them in memory.
"""

import contextlib
import dataclasses
import http.client
import time
import urllib.error
import urllib.request

from testbed.containerd import Containerd, drop_caches
from testbed.pagein import Pagein
from testbed.pageind import Pageind
from testbed.process import TestbedError, free_port, wait_until

ACCELERATED = "_accelerated"
RECORDED = "_recorded"
_READY_SECONDS = 120
_COMPLETE_SECONDS = 180


@dataclasses.dataclass
class App:
    """What to run and how to see that it serves."""

    repository: str
    ready_path: str
    page_path: str  # compared between the two starts


APPS = {
    "small": App("small", "/index.html", "/index.html"),
    "python": App("python", "/", "/"),
    "nodeapp": App("nodeapp", "/healthz/readiness", "/healthz/readiness"),
}


@dataclasses.dataclass
class Start:
    """One measured start. Seconds count from the beginning of the pull; bytes are what crossed the link since then."""

    pull_seconds: float = 0
    ready_seconds: float = 0
    local_seconds: float = 0  # the whole image is on the node
    pull_bytes: int = 0
    ready_bytes: int = 0
    local_bytes: int = 0
    page: bytes = b""
    metrics: dict = dataclasses.field(default_factory=dict)  # pageind's, at ready
    status: str = ""  # `pagein status` when the image is whole


class _Clock:
    """Seconds and link bytes since it was made."""

    def __init__(self, link):
        self._link = link
        self._bytes = link.bytes_sent()
        self._time = time.monotonic()

    def now(self):
        return time.monotonic() - self._time, self._link.bytes_sent() - self._bytes


def fetch(url):
    """The body if the answer is 200, else None."""
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.read() if reply.status == 200 else None
    except (OSError, urllib.error.URLError, http.client.HTTPException):
        return None


def measure_plain(link, registry, app):
    """containerd's own overlayfs snapshotter: fetch everything, unpack everything, start."""
    with Containerd(insecure=[registry.address]) as containerd:
        ref = registry.ref(app.repository)
        _make_cold(registry)
        clock = _Clock(link)
        start = Start()
        containerd.pull(ref)
        start.pull_seconds, start.pull_bytes = start.local_seconds, start.local_bytes = clock.now()
        with _running(containerd, ref, "overlayfs") as port:
            _wait_ready(app, port, clock, start)
    return start


def measure_local(link, registry, app):
    """(warm, cold): the start alone where all is on the node already; no lazy start can be faster than that."""
    with Containerd(insecure=[registry.address]) as containerd:
        ref = registry.ref(app.repository)
        containerd.pull(ref)
        starts = []
        for prepare in (lambda: None, lambda: None, drop_caches):  # the first one only warms the cache
            prepare()
            clock = _Clock(link)
            start = Start()
            with _running(containerd, ref, "overlayfs") as port:
                _wait_ready(app, port, clock, start)
            starts.append(start)
    return starts[1], starts[2]


def convert_recorded(registry, app):
    """Records a start of the accelerated image and converts the base image with that, to the suffix RECORDED."""
    settings = {"registry": {"plain_http": [registry.address]}}
    base = registry.ref(app.repository)
    with Pageind(settings) as pageind:
        port = free_port()
        trace = pageind.folder / "trace.json"
        Pagein().run("record", "--plain-http", "--socket", pageind.control, "--env", f"PORT={port}", "--output", trace,
                     "--timeout", _READY_SECONDS, "--until", f"http:http://127.0.0.1:{port}{app.ready_path}",
                     base + ACCELERATED, timeout=2 * _READY_SECONDS)
        Pagein().run("convert", "--plain-http", "--startup-trace", trace, "--target-suffix", RECORDED, base,
                     timeout=600)


def measure_lazy(link, registry, app, wait_complete=True, config=None, suffix=ACCELERATED):
    """Pagein: put the image's mounts up, start, load the rest behind it."""
    settings = {"trust": {"repositories": [registry.address + "/*"]},
                "registry": {"plain_http": [registry.address]}, **(config or {})}
    with Pageind(settings) as pageind, Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        ref = registry.ref(app.repository) + suffix
        _make_cold(registry)
        clock = _Clock(link)
        start = Start()
        Pagein().run("pull", "--plain-http", "-a", containerd.address, "-n", containerd.namespace, ref)
        start.pull_seconds, start.pull_bytes = clock.now()
        with _running(containerd, ref, "pagein") as port:
            _wait_ready(app, port, clock, start)
            start.metrics = pageind.metrics()
            if wait_complete:
                wait_until(pageind.complete, _COMPLETE_SECONDS, "the whole image is on the node")
                start.local_seconds, start.local_bytes = clock.now()
                start.status = Pagein().text("status", "--socket", pageind.control)
    return start


@contextlib.contextmanager
def _running(containerd, ref, snapshotter):
    """Runs the image; the port on which it was told to serve."""
    port = free_port()
    container = containerd.run_detached(ref, snapshotter=snapshotter, env={"PORT": port})
    try:
        yield port
    finally:
        containerd.kill(container)


def _wait_ready(app, port, clock, start):
    wait_until(lambda: fetch(f"http://127.0.0.1:{port}{app.ready_path}"), _READY_SECONDS, "the app answers 200")
    start.ready_seconds, start.ready_bytes = clock.now()
    start.page = fetch(f"http://127.0.0.1:{port}{app.page_path}")
    if not start.page:
        raise TestbedError(f"the app does not serve {app.page_path}")


def _make_cold(registry):
    drop_caches()
    for path in registry.storage.rglob("*"):
        if path.is_file():
            with open(path, "rb") as blob:
                while blob.read(1 << 20):
                    pass
