"""Plays systemd for one service: readiness and the file descriptor store, over a NOTIFY_SOCKET of ours.

Protocol: sd_notify(3), sd_pid_notify_with_fds(3), sd_listen_fds(3).
"""

import array
import fcntl
import os
import select
import socket
import threading

from testbed.process import TestbedError, wait_until

_MAX_FDS_PER_MESSAGE = 253  # SCM_MAX_FD
# Descriptors handed to a start are first moved here, out of the way of 3, 4, ...
_FIRST_HIGH_FD = 300


class ServiceManager:
    """Receives notifications in a thread; keeps the stored descriptors until close(). Thread-safe.

    Like systemd it drops a stored descriptor that reports POLLHUP or POLLERR, unless it was stored with FDPOLL=0.
    """

    def __init__(self, socket_path):
        self.socket_path = str(socket_path)
        self.status = ""
        self.messages = []
        self._changed = threading.Condition()
        self._ready = 0
        self._stopping = False
        self._stored = []  # (name, fd, watched)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.bind(self.socket_path)
        self._thread = threading.Thread(target=self._receive_all, daemon=True)
        self._thread.start()

    def close(self):
        """Ends the thread and closes every stored descriptor."""
        if self._socket is None:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"X_TESTBED_CLOSE=1", self.socket_path)
        self._thread.join()
        self._socket.close()
        self._socket = None
        os.unlink(self.socket_path)
        for _, fd, _ in self._stored:
            os.close(fd)
        self._stored = []

    def begin_start(self):
        """Forgets readiness; call before each start of the service."""
        with self._changed:
            self._ready = 0
            self._stopping = False
            self.messages = []

    def is_ready(self):
        with self._changed:
            return self._ready > 0

    def is_stopping(self):
        with self._changed:
            return self._stopping

    def stored_names(self):
        """Names of stored descriptors, in the order of storing."""
        with self._changed:
            return [name for name, _, _ in self._stored]

    def wait_stored(self, name, timeout=10):
        wait_until(lambda: name in self.stored_names(), timeout, f"descriptor {name} is stored")

    def hand_over(self):
        """(fds, names) for the next start: duplicates at high numbers, inheritable; the caller closes them."""
        with self._changed:
            self._drop_dead()
            fds = []
            for _, fd, _ in self._stored:
                high = _duplicate_high(fd, _FIRST_HIGH_FD)
                os.set_inheritable(high, True)
                fds.append(high)
            return fds, [name for name, _, _ in self._stored]

    def _drop_dead(self):
        watched = {fd: name for name, fd, watch in self._stored if watch}
        poller = select.poll()
        for fd in watched:
            poller.register(fd, 0)
        for fd, events in poller.poll(0) if watched else []:
            if events & (select.POLLHUP | select.POLLERR):
                self._stored = [entry for entry in self._stored if entry[1] != fd]
                os.close(fd)

    def _receive_all(self):
        while True:
            data, ancillary, flags, _ = self._socket.recvmsg(
                65536, socket.CMSG_SPACE(_MAX_FDS_PER_MESSAGE * 4), socket.MSG_CMSG_CLOEXEC)
            fds = array.array("i")
            for level, kind, payload in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    fds.frombytes(payload[:len(payload) - len(payload) % fds.itemsize])
            if data == b"X_TESTBED_CLOSE=1":
                return
            with self._changed:
                self._take(data.decode(errors="replace"), list(fds))
                self._changed.notify_all()

    def _take(self, text, fds):
        fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        self.messages.append(text)
        if fields.get("READY") == "1":
            self._ready += 1
        if fields.get("STOPPING") == "1":
            self._stopping = True
        self.status = fields.get("STATUS", self.status)
        name = fields.get("FDNAME", "stored")
        if fields.get("FDSTOREREMOVE") == "1":
            for entry in [entry for entry in self._stored if entry[0] == name]:
                self._stored.remove(entry)
                os.close(entry[1])
        elif fields.get("FDSTORE") == "1":
            self._stored += [(name, fd, fields.get("FDPOLL") != "0") for fd in fds]
            fds = []
        for fd in fds:  # also BARRIER=1: closing its descriptor is the answer
            os.close(fd)


def _duplicate_high(fd, lowest):
    return fcntl.fcntl(fd, fcntl.F_DUPFD, lowest)


def listen_fds_command(argv, fds, names):
    """(argv, environment) that starts argv with fds as 3, 4, ... and LISTEN_PID as the program's own pid.

    A shell does it, since the variable must hold the pid of the process that execs the program.
    """
    if not fds:
        return argv, {}
    if min(fds) < 3 + len(fds):
        raise TestbedError("descriptors to hand over overlap their targets")
    moves = "".join(f"exec {3 + i}<&{fd} {fd}<&-; " for i, fd in enumerate(fds))
    script = moves + 'export LISTEN_PID=$$; exec "$@"'
    return ["bash", "-c", script, "listen-fds", *argv], {"LISTEN_FDS": str(len(fds)), "LISTEN_FDNAMES": ":".join(names)}
