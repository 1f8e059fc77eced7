"""The testbed's service manager: readiness, the descriptor store and how it hands descriptors to the next start."""

import os
import socket
import subprocess
import sys

import pytest

from testbed import Pageind, ServiceManager, run, wait_until
from testbed.service_manager import listen_fds_command


@pytest.fixture
def manager():
    folder = run.new_dir("mgr")
    made = ServiceManager(folder / "notify")
    yield made
    made.close()
    run.remove_dir(folder)


def notify(manager, text, fds=()):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(manager.socket_path)
        socket.send_fds(sender, [text.encode()], list(fds))


def memory_file(content):
    fd = os.memfd_create("stored")
    os.write(fd, content)
    return fd


def start_with_stored(manager, script):
    """Runs a Python script as the service would be started; its standard output."""
    fds, names = manager.hand_over()
    argv, environment = listen_fds_command([sys.executable, "-c", script], fds, names)
    done = subprocess.run(argv, env={**os.environ, **environment}, pass_fds=fds, capture_output=True, text=True)
    for fd in fds:
        os.close(fd)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_ready_and_status(manager):
    assert not manager.is_ready()
    notify(manager, "READY=1\nSTATUS=serving")
    wait_until(manager.is_ready, 5, "READY")
    assert manager.status == "serving"
    manager.begin_start()
    assert not manager.is_ready()


def test_stored_descriptors_reach_the_next_start(manager):
    for number in range(12):
        fd = memory_file(b"content %d" % number)
        notify(manager, f"FDSTORE=1\nFDNAME=fuse-{number}\nFDPOLL=0", [fd])
        os.close(fd)
    manager.wait_stored("fuse-11")
    out = start_with_stored(manager, """
import os
assert int(os.environ["LISTEN_PID"]) == os.getpid()
names = os.environ["LISTEN_FDNAMES"].split(":")
assert len(names) == int(os.environ["LISTEN_FDS"]) == 12
for number, name in enumerate(names):
    print(name, os.pread(3 + number, 100, 0).decode())
assert sorted(map(int, os.listdir("/proc/self/fd")))[:15] == list(range(15))
assert not os.path.exists("/proc/self/fd/300")
""")
    assert out.splitlines() == [f"fuse-{number} content {number}" for number in range(12)]
    assert len(manager.stored_names()) == 12, "a start does not empty the store"


def test_removal_by_name(manager):
    for name in ("a", "b", "a"):
        fd = memory_file(b"x")
        notify(manager, f"FDSTORE=1\nFDNAME={name}\nFDPOLL=0", [fd])
        os.close(fd)
    notify(manager, "FDSTOREREMOVE=1\nFDNAME=a")
    wait_until(lambda: manager.stored_names() == ["b"], 5, "a is removed")


def test_hung_up_descriptors_are_dropped_like_systemd_does(manager):
    read_end, write_end = os.pipe()
    notify(manager, "FDSTORE=1\nFDNAME=pipe", [read_end])
    manager.wait_stored("pipe")
    os.close(write_end)
    os.close(read_end)
    assert manager.hand_over() == ([], [])


def test_barrier_descriptor_is_closed(manager):
    read_end, write_end = os.pipe()
    notify(manager, "BARRIER=1", [write_end])
    os.close(write_end)
    assert os.read(read_end, 1) == b""
    os.close(read_end)


def test_start_without_stored_descriptors_sets_nothing(manager):
    argv, environment = listen_fds_command(["true"], *manager.hand_over())
    assert (argv, environment) == (["true"], {})


FAKE_DAEMON = """#!/usr/bin/python3
# Stores one descriptor at the first start, and says on the log what it was handed at later ones.
import os, signal, socket, sys, tomllib
config = tomllib.load(open(sys.argv[2], "rb"))
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.connect(os.environ["NOTIFY_SOCKET"])
if os.environ.get("LISTEN_PID") == str(os.getpid()):
    print("handed", os.environ["LISTEN_FDNAMES"], os.pread(3, 100, 0).decode(), flush=True)
else:
    fd = os.memfd_create("x")
    os.write(fd, config["greeting"].encode())
    socket.send_fds(notify, [b"FDSTORE=1\\nFDNAME=one\\nFDPOLL=0"], [fd])
notify.send(b"READY=1")
signal.sigwait([signal.SIGTERM])
"""


def test_pageind_fixture_hands_descriptors_over_a_crash(tmp_path):
    program = tmp_path / "pageind"
    program.write_text(FAKE_DAEMON)
    program.chmod(0o755)
    with Pageind({"greeting": "hello", "snapshotter": {"address": "x"}}, program=program) as daemon:
        assert daemon.config["snapshotter"] == {"address": "x"}
        daemon.manager.wait_stored("one")
        first = daemon.pid
        daemon.kill9()
        assert not daemon.running()
        daemon.start()
        assert daemon.pid != first
        daemon.wait_log("handed one hello")
        assert daemon.stop() != 0
        assert daemon.manager.stored_names() == ["one"]
