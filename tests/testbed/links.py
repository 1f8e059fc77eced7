"""Network links of a given rate and latency, made of network namespaces and a delaying proxy; all cleaned up."""

import contextlib
import itertools
import os
import pathlib
import sys

from testbed import run
from testbed.process import Process, TestbedError, find_program, run_command

_numbers = itertools.count(1)


class Namespace:
    """A network namespace with loopback up. Confined to the thread that made it."""

    def __init__(self):
        self.name = f"{run.NETNS_PREFIX}{run.run_id()}-{next(_numbers)}"

    @staticmethod
    def missing():
        """Why namespaces cannot be made here, or None."""
        if os.geteuid() != 0:
            return "network namespaces need root"
        for program in ("ip", "tc", "ethtool", "nsenter"):
            if not find_program(program):
                return f"{program} is not installed"
        return None

    def __enter__(self):
        run_command(["ip", "netns", "add", self.name])
        self.run(["ip", "link", "set", "lo", "up"])
        return self

    def __exit__(self, *_):
        run_command(["ip", "netns", "del", self.name])

    def run(self, argv, check=True):
        return run_command(["ip", "netns", "exec", self.name, *argv], check=check)


class ShapedLink:
    """A veth pair into a namespace of its own, whose far end sends at most `rate` ("300mbit"); None is unlimited.

    Run a server with netns=link.name on link.host; it is reached at that address from outside. The /30 that the two
    ends have is of the range for benchmarks (RFC 2544), on interfaces of ours only, and goes away with them.
    """

    def __init__(self, rate=None):
        self.rate = rate
        self._stack = contextlib.ExitStack()

    missing = staticmethod(Namespace.missing)

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            self._namespace = stack.enter_context(Namespace())
            number = next(_numbers)
            self._near, self._far = f"tbn{os.getpid()}-{number}"[-15:], f"tbf{os.getpid()}-{number}"[-15:]
            near_address, self.host = _free_subnet()
            run_command(["ip", "link", "add", self._near, "type", "veth", "peer", "name", self._far,
                         "netns", self.name])
            stack.callback(run_command, ["ip", "link", "del", self._near], check=False)
            run_command(["ip", "address", "add", f"{near_address}/30", "dev", self._near])
            run_command(["ip", "link", "set", self._near, "up"])
            self._namespace.run(["ip", "address", "add", f"{self.host}/30", "dev", self._far])
            self._namespace.run(["ip", "link", "set", self._far, "up"])
            if self.rate:
                self._shape()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self._stack.close()

    @property
    def name(self):
        """The namespace, for Registry(netns=...)."""
        return self._namespace.name

    def bytes_sent(self):
        """Bytes that the far end has sent since the link was made, with all headers."""
        # sysfs shows the namespace of whoever mounted it; the near end's counter is the same, and here.
        return int(pathlib.Path(f"/sys/class/net/{self._near}/statistics/rx_bytes").read_text())

    def bytes_received(self):
        """Bytes that the far end has received."""
        return int(pathlib.Path(f"/sys/class/net/{self._near}/statistics/tx_bytes").read_text())

    def set_rate(self, rate):
        """Changes the rate while traffic flows."""
        self.rate = rate
        self._namespace.run(["tc", "qdisc", "del", "dev", self._far, "root"], check=False)
        if rate:
            self._shape()

    def cut(self):
        """The cable is pulled: packets go nowhere until join()."""
        # The near end stays up: without its route, packets would leave the machine by the default one.
        self._namespace.run(["ip", "link", "set", self._far, "down"])

    def join(self):
        self._namespace.run(["ip", "link", "set", self._far, "up"])

    def _shape(self):
        # tbf drops what is larger than its burst, and segmentation offload makes packets of 64 KiB.
        self._namespace.run(["ethtool", "-K", self._far, "tso", "off", "gso", "off"])
        self._namespace.run(["tc", "qdisc", "add", "dev", self._far, "root", "tbf", "rate", self.rate,
                             "burst", "256kb", "latency", "50ms"])


def _free_subnet():
    """(near, far) addresses of an unused /30 in 198.18.0.0/15."""
    used = run_command(["ip", "-4", "-brief", "address"]).stdout + run_command(["ip", "-4", "route"]).stdout
    for block in range(os.getpid() % 8192, os.getpid() % 8192 + 8192):
        base = (block % 16384) * 4
        prefix = f"198.{18 + (base >> 16)}.{base >> 8 & 255}."
        if prefix not in used:
            return f"{prefix}{(base & 255) + 1}", f"{prefix}{(base & 255) + 2}"
    raise TestbedError("no free subnet for a link")


class LatencyProxy:
    """A delaying TCP proxy on loopback before target (anything with host and port). Confined to its thread.

    Stands for its target: address, url and ref() lead through it. Only for plain HTTP or TLS without host checks.
    """

    def __init__(self, target, rtt_ms):
        self._target = target
        self._rtt_ms = rtt_ms
        self.host = "127.0.0.1"
        self._process = None

    def __enter__(self):
        self._folder = run.new_dir("latency")
        program = [sys.executable, "-m", "testbed.latency_proxy", self._target.host, self._target.port, self._rtt_ms]
        self._process = Process(program, self._folder / "log", cwd=pathlib.Path(__file__).parents[1]).start()
        self._process.wait_ready(lambda: self._process.log_text().endswith("\n"), 20, "the latency proxy listens")
        self.port = int(self._process.log_text().splitlines()[0])
        return self

    def __exit__(self, *_):
        self._process.kill()
        run.remove_dir(self._folder)

    @property
    def address(self):
        return f"{self.host}:{self.port}"

    @property
    def url(self):
        return f"http://{self.address}"

    @property
    def storage(self):
        return self._target.storage

    def ref(self, repository, tag="latest"):
        return f"{self.address}/{repository}:{tag}"
