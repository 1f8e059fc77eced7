"""Child processes of the testbed: started in their own session with a log file, waited for, ended for sure."""

import os
import pathlib
import shutil
import signal
import socket
import subprocess
import time

from testbed import run


class TestbedError(Exception):
    """A part of the testbed did not do what a test needs; the message says what, and shows the log's end."""

    __test__ = False


def wait_until(condition, timeout, what):
    """Polls condition() until it is true and returns its value; TestbedError naming `what` after timeout seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TestbedError(f"gave up after {timeout:g} s waiting for {what}")
        time.sleep(0.01)


def free_port(host="127.0.0.1"):
    """A TCP port that was free a moment ago. Another process may take it: callers retry on failure to listen."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return probe.getsockname()[1]


def is_listening(host, port):
    try:
        with socket.create_connection((host, port), timeout=0.5):
            return True
    except OSError:
        return False


def find_program(*names):
    """Path of the first of names on PATH or in the usual sbin folders, or None."""
    path = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None


def run_command(argv, timeout=120, check=True, env=None, stdin=None):
    """Runs a command to its end and returns CompletedProcess with text output; TestbedError if it fails and check."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=timeout, env=run.marked_environment(env),
                              input=stdin, encoding="utf-8", errors="backslashreplace")
    except subprocess.TimeoutExpired as error:
        raise TestbedError(f"{_show(argv)} did not end within {timeout} s: {error.stderr or ''}") from error
    except FileNotFoundError as error:
        raise TestbedError(f"{argv[0]} is not installed") from error
    if check and done.returncode != 0:
        raise TestbedError(f"{_show(argv)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def _show(argv):
    return " ".join(str(word) for word in argv)


class Process:
    """One child process with stdout and stderr appended to a log file. Thread-compatible."""

    def __init__(self, argv, log_path, env=None, netns=None, pass_fds=(), cwd=None):
        self.argv = [str(word) for word in argv]
        self.log_path = pathlib.Path(log_path)
        self._env = env or {}
        self._netns = netns
        self._pass_fds = tuple(pass_fds)
        self._cwd = cwd
        self._child = None

    @property
    def pid(self):
        return self._child.pid if self._child else None

    def start(self):
        argv = self.argv
        if self._netns:
            # Not `ip netns exec`: that makes a mount namespace too, and hides later mounts from the child.
            argv = ["nsenter", f"--net=/run/netns/{self._netns}", "--"] + argv
        with open(self.log_path, "ab") as log:
            self._child = subprocess.Popen(argv, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self._cwd,
                                           env=run.marked_environment(self._env), start_new_session=True,
                                           pass_fds=self._pass_fds)
        return self

    def running(self):
        return self._child is not None and self._child.poll() is None

    def exit_code(self):
        """The exit code (negative: signal), or None while it runs."""
        return self._child.poll() if self._child else None

    def wait(self, timeout=30):
        """Waits for the process to end by itself and returns the exit code."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise TestbedError(f"{self.argv[0]} still runs after {timeout} s\n{self.log_tail()}") from error

    def wait_ready(self, condition, timeout, what):
        """Waits for condition(); fails at once, with the log's end, if the process ends before."""
        def probe():
            if not self.running():
                raise TestbedError(f"{_show(self.argv)} ended with {self.exit_code()} before {what}\n{self.log_tail()}")
            return condition()
        try:
            return wait_until(probe, timeout, what)
        except TestbedError as error:
            raise TestbedError(f"{error}\n{self.log_tail()}") from error

    def stop(self, timeout=15):
        """SIGTERM, then SIGKILL to the whole session after timeout; returns the exit code."""
        if self._child is None:
            return None
        if self._child.poll() is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(timeout)
            except subprocess.TimeoutExpired:
                self.kill()
        return self._child.returncode

    def kill(self):
        """SIGKILL to the process (its session's other members too) and reaps it."""
        if self._child is None:
            return
        try:
            os.killpg(self._child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._child.wait(10)

    def kill9(self):
        """SIGKILL to this one process only, as a crash would end it."""
        self._child.kill()
        self._child.wait(10)

    def log_text(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self, lines=30):
        return "\n".join(self.log_text().splitlines()[-lines:])
