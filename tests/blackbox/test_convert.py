"""Conversion as a person meets it: interrupted and taken up again, from archives, watched on a terminal."""

import json
import os
import pty
import re
import signal
import subprocess

import pytest

from testbed import FaultProxy, Hang, Pagein, Registry, TestbedError, build_dir, lazy, push_image, run, wait_until
from testbed.fixtures import require
from testbed.process import run_command

MIB = 1 << 20
LAYERS = [{"first": lazy.text_bytes(MIB, 1)}, {"second": lazy.text_bytes(3 * MIB, 2)}]


@pytest.fixture
def app():
    """(registry, descriptors of the base image's layers) of an image app:latest."""
    require(Registry, Pagein)
    with Registry() as registry, lazy.folder("layout") as folder:
        push_image(lazy.make_layout(folder, LAYERS), "latest", registry, "app")
        yield registry, lazy.layers_of(registry, "app", "latest")


def start(*arguments, home, **how):
    env = run.marked_environment({"XDG_CACHE_HOME": str(home)})
    return subprocess.Popen([build_dir.program("pagein"), *map(str, arguments)], env=env, **how)


def accelerated(registry):
    """The digest of the result's index, None where there is none."""
    done = Pagein().run("inspect", registry.ref("app", lazy.ACCELERATED), check=False)
    if done.returncode != 0:
        assert "no such image or tag" in done.stderr
        return None
    return lazy.image_manifest(registry, "app")[1]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_conversion_publishes_nothing_and_goes_on(app, tmp_path, how):
    registry, (first, second) = app
    with FaultProxy(registry) as proxy:
        hang = proxy.add(Hang(after=MIB), kind="blob", digest=second["digest"])
        # One after the other: the first layer is through when the second one hangs.
        child = start("convert", "-j", 1, proxy.ref("app"), home=tmp_path, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: hang.hits > 0, 20, "the second layer is read")
        child.send_signal(how)
        message = child.communicate(timeout=20)[1]
        assert child.returncode == (-signal.SIGKILL if how == signal.SIGKILL else 130), message
        assert accelerated(registry) is None
        proxy.clear()
        proxy.forget_requests()
        child = start("convert", "-j", 1, proxy.ref("app"), home=tmp_path)
        assert child.wait(60) == 0
        assert proxy.bytes_sent("blob", first["digest"]) == 0, "it is not read again"
    Pagein().run("check", registry.ref("app"), registry.ref("app", lazy.ACCELERATED))
    resumed = accelerated(registry)
    Pagein().run("convert", "--no-cache", registry.ref("app"))
    assert accelerated(registry) == resumed, "the same image as in one go"


@pytest.mark.parametrize("kind", ["docker-archive", "oci-archive"])
def test_an_archive_becomes_an_accelerated_image(images, tmp_path, kind):
    require(Pagein)
    archive = tmp_path / "image.tar"
    try:
        run_command(["skopeo", "copy", "-q", f"oci:{images('small')}:latest", f"{kind}:{archive}:app:v1"])
    except TestbedError as error:
        pytest.skip(str(error))
    source = f"{kind}:{archive}:app:v1" if kind == "docker-archive" else f"{kind}:{archive}"
    destination = f"oci:{tmp_path / 'out'}:fast"
    Pagein().run("convert", source, destination)
    shown = Pagein().json("inspect", destination)
    layers = [layer for image in shown["images"] for layer in image["layers"]]
    assert layers and all(layer["index"] for layer in layers)
    assert Pagein().json("check", source, destination)["same"]


def test_a_terminal_shows_each_layer_and_a_file_only_lines(app, tmp_path):
    registry, _ = app
    ours, theirs = pty.openpty()
    try:
        child = start("convert", "--no-cache", registry.ref("app"), home=tmp_path, stderr=theirs)
        os.close(theirs)
        seen = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not piece:
                break
            seen += piece
        assert child.wait(60) == 0
    finally:
        os.close(ours)
    assert b"\x1b[" in seen and seen.count(b"indexed") >= 2
    plain = Pagein().run("convert", "--no-cache", registry.ref("app"), registry.ref("app", "again"))
    assert "\x1b" not in plain.stderr
    assert len(re.findall(r"^[0-9a-f]{12} .* indexed$", plain.stderr, re.MULTILINE)) == 2
    summary = json.loads(Pagein().run("convert", "--json", "--no-cache", registry.ref("app")).stdout)
    assert {layer["outcome"] for layer in summary["layers"]} == {"reused"}
