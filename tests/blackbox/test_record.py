"""`pagein record` runs an image, writes down what its start reads, and takes everything away again."""

import json
import os
import pathlib
import signal
import subprocess

import pytest

from testbed import Pagein, Pageind, Registry, build_dir, lazy, run, wait_until
from testbed.fixtures import require
from testbed.process import free_port
from testbed.push import push_image

MEDIA_TYPE = "application/vnd.pagein.startup.trace.v1"
FILES = {"data": lazy.text_bytes(2 << 20, 1), "unread": lazy.text_bytes(2 << 20, 2)}


class Recorder:
    def __init__(self, registry, pageind, folder):
        self.registry, self.pageind, self.folder = registry, pageind, folder
        self.ref = registry.ref("app", lazy.ACCELERATED)
        self.base = registry.ref("app")
        self.env = {"TMPDIR": str(folder)}

    def run(self, *arguments, check=True, timeout=120):
        return Pagein(env=self.env).run("record", "--socket", self.pageind.control, *arguments, check=check,
                                        timeout=timeout)

    def trace(self, *arguments, **options):
        return json.loads(self.run(*arguments, **options).stdout)

    def start(self, *arguments):
        argv = [build_dir.program("pagein"), "record", "--socket", self.pageind.control, *map(str, arguments)]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**run.marked_environment(), **self.env})

    def assert_clean(self):
        assert os.listdir(self.folder) == [], "nothing is left in the temporary folder"
        mounts = pathlib.Path("/proc/self/mounts").read_text()
        assert str(self.folder) not in mounts and "/recording-" not in mounts
        images = pathlib.Path(self.pageind.config["root"], "images")
        wait_until(lambda: not [p for p in images.iterdir() if "recording" in p.name], 20, "the daemon forgets it")


@pytest.fixture(scope="module")
def published(images):
    require(Registry, Pagein, Pageind)
    with Registry() as registry, lazy.folder("layout") as folder:
        push_image(lazy.make_layout(folder, [FILES], images("small")), "latest", registry, "app")
        Pagein().run("convert", "--no-cache", registry.ref("app"))
        yield registry


@pytest.fixture
def recorder(published):
    with Pageind({"fetch": {"background": False}}) as pageind, lazy.folder("rec") as folder:
        yield Recorder(published, pageind, folder)
        Recorder(published, pageind, folder).assert_clean()


def diff_ids(registry, tag):
    manifest, _ = lazy.image_manifest(registry, "app", tag)
    config = registry.blob_path(manifest["config"]["digest"]).read_bytes()
    return json.loads(config)["rootfs"]["diff_ids"]


def test_a_command_that_ends(recorder):
    trace = recorder.trace(recorder.ref, "--until", "exit", "--", "/bin/sha256sum", "/data")
    assert trace["version"] == 1 and trace["until"] == "exit" and trace["image"] == recorder.ref
    assert trace["manifest"] == lazy.image_manifest(recorder.registry, "app")[1]
    assert trace["platform"].startswith("linux/")
    layers = diff_ids(recorder.registry, lazy.ACCELERATED)
    assert {read["diff_id"] for read in trace["reads"]} <= set(layers)
    top = sum(read["length"] for read in trace["reads"] if read["diff_id"] == layers[-1])
    assert len(FILES["data"]) <= top < 1.5 * len(FILES["data"]), "all of the file and little else"
    times = [read["ms"] for read in trace["reads"]]
    assert times == sorted(times)


def test_the_same_reads_are_seen_when_all_is_there(recorder):
    command = [recorder.ref, "--until", "exit", "--", "/bin/sha256sum", "/data"]
    first = recorder.trace(*command)
    point = lazy.mount(recorder.pageind, recorder.ref)
    for name in FILES:
        lazy.read(point / name)
    second = recorder.trace(*command)
    lazy.umount(recorder.pageind, point)
    assert sum(r["length"] for r in second["reads"]) >= 0.9 * sum(r["length"] for r in first["reads"])


def test_until_a_server_answers(recorder):
    port = free_port()
    output = recorder.folder.parent / "trace.json"
    done = recorder.run(recorder.ref, "--env", f"PORT={port}", "--until", f"http:http://127.0.0.1:{port}/index.html",
                        "--output", output, "--", "/serve")
    assert done.stdout == "" and "ready after" in done.stderr
    trace = json.loads(output.read_text())
    output.unlink()
    assert trace["reads"] and 0 < trace["ready_ms"] < 60_000


def test_until_a_line_is_written(recorder):
    trace = recorder.trace(recorder.ref, "--net", "none", "--read-only", "--until", "log:^rea[d]y", "--",
                           "/bin/sh", "-c", "echo not yet; echo ready; sleep 100")
    assert trace["until"] == "log:^rea[d]y"


def test_environment_volume_and_user(recorder):
    given = recorder.folder.parent / "given"
    given.write_text("of the host\n")
    script = "id -u; echo $WORD; cat /given; echo x > /tmp/x && cat /tmp/x; test -r /proc/self/stat && echo over"
    done = recorder.run(recorder.ref, "--until", "log:over", "-e", "WORD=spoken", "--volume", f"{given}:/given:ro",
                        "--user", "123:45", "--", "/bin/sh", "-c", script + "; sleep 100")
    given.unlink()
    assert done.stderr.splitlines()[:4] == ["123", "spoken", "of the host", "x"]


@pytest.mark.parametrize("until, command, why", [
    ("exit", ["/bin/false"], "exit code 1"),
    ("log:never", ["/bin/true"], "before it was ready"),
    ("exit", ["/no/such/program"], "ended with exit code"),
])
def test_a_start_that_fails_writes_no_trace(recorder, until, command, why):
    done = recorder.run(recorder.ref, "--until", until, "--", *command, check=False)
    assert done.returncode == 1 and done.stdout == ""
    assert why in done.stderr


def test_a_start_that_takes_too_long(recorder):
    done = recorder.run(recorder.ref, "--until", "exit", "--timeout", "2", "--", "/bin/sleep", "100", check=False)
    assert done.returncode == 1 and "--timeout" in done.stderr


def test_wrong_arguments(recorder):
    assert recorder.run(recorder.ref, "--until", "soon", check=False).returncode == 2
    assert recorder.run(recorder.ref, "--volume", "here:there", check=False).returncode == 2
    assert recorder.run(recorder.base, check=False).returncode == 1, "an image without an index"


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_cleans_up(recorder, how):
    child = recorder.start(recorder.ref, "--until", "exit", "--", "/bin/sh", "-c", "echo begun; sleep 100")
    assert child.stderr.readline() == "begun\n"
    child.send_signal(how)
    child.communicate(timeout=30)
    assert child.returncode == 130


def test_a_daemon_that_restarts_ends_the_recording(recorder):
    child = recorder.start(recorder.ref, "--until", "exit", "--", "/bin/sh", "-c", "echo begun; sleep 100")
    assert child.stderr.readline() == "begun\n"
    recorder.pageind.restart()
    _, said = child.communicate(timeout=60)
    assert child.returncode == 1 and "recording" in said
    wait_until(lambda: "/recording-" not in pathlib.Path("/proc/self/mounts").read_text(), 10, "it is unmounted")


def test_an_attached_trace_makes_the_next_pack(recorder):
    recorder.run(recorder.ref, "--until", "exit", "--attach", recorder.base, "--", "/bin/sha256sum",
                 "/data")
    report = Pagein().json("convert", "--no-cache", recorder.base)
    startup = report["platforms"][0]["startup"]
    assert startup["origins"] == ["attached trace"], startup
    assert startup["tar_bytes"] >= len(FILES["data"])
    done = recorder.run(recorder.ref, "--until", "exit", "--attach", recorder.registry.ref("nowhere"), "--",
                        "/bin/true", check=False)
    assert done.returncode == 1, "there is no such base image"
