"""Full mode: both encodings are ordinary images for containerd, and page in lazily with the same bytes."""

import gzip
import json
import os
import signal
import subprocess
import urllib.error
import urllib.request

import pytest

from images import oci_layout, recipe_nasty
from testbed import Containerd, Registry, build_dir, lazy, push_image, wait_until
from testbed.fixtures import require
from testbed.pagein import Pagein
from testbed.pageind import Pageind
from testbed.process import free_port
from test_lazy_images import answers, differences

TAGS = {"gzip": "latest_accelerated", "zstd": "latest_containerd_accelerated"}
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar+"
SKIPPABLE_FRAME = bytes.fromhex("502a4d18" "03000000" "000102")
SERVERS = {"small": "/index.html", "python": "/"}


class Node:
    """One registry, one daemon that trusts it, one containerd."""

    def __init__(self, registry, pageind, containerd):
        self.registry, self.pageind, self.containerd = registry, pageind, containerd
        self.pagein = Pagein()

    def convert(self, name, *flags):
        return self.pagein.json("convert", "--mode", "full", "--no-cache", *flags, self.registry.ref(name), timeout=600)


@pytest.fixture(scope="module")
def node():
    require(Registry, Containerd, Pageind, Pagein)
    with Registry() as registry, \
            Pageind({"trust": {"repositories": [registry.address + "/*"]}}) as pageind, \
            Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        yield Node(registry, pageind, containerd)


def get_blob(registry, repository, digest):
    with urllib.request.urlopen(f"{registry.url}/v2/{repository}/blobs/{digest}", timeout=60) as reply:
        return reply.read()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", SERVERS)
def test_both_encodings_run_everywhere_and_lazily(node, images, name):
    push_image(images(name), "latest", node.registry, name)
    report = node.convert(name)
    assert [image["encoding"] for image in report["images"]] == ["gzip", "zstd"]
    base = lazy.image_manifest(node.registry, name, "latest")[0]
    for image in report["images"]:
        encoding, ref = image["encoding"], image["destination"]
        assert ref == node.registry.ref(name, TAGS[encoding])
        assert {layer["outcome"] for layer in image["layers"]} == {"indexed"}
        assert image["index_bytes"] < 0.006 * image["layer_bytes"] + 4096
        manifest = lazy.image_manifest(node.registry, name, TAGS[encoding])[0]
        assert manifest["config"]["digest"] == base["config"]["digest"], "the image ID stays"
        assert {layer["mediaType"] for layer in manifest["layers"]} == {LAYER_TYPE + encoding}

        assert node.pagein.json("check", node.registry.ref(name), ref, timeout=600)["same"]
        inspected = node.pagein.json("inspect", ref)["images"][0]["layers"]
        assert all(layer["index"] and not layer.get("problem") for layer in inspected)
        runs_without_pagein(node, name, ref)
        runs_lazily(node, name, ref)


def runs_without_pagein(node, name, ref):
    """All encodings have the same snapshots, so none may be there yet; containerd checks the diffIDs as it unpacks."""
    assert node.containerd.snapshots() == {}
    node.containerd.pull(ref)
    port = free_port()
    container = node.containerd.run_detached(ref, env={"PORT": port})
    wait_until(lambda: answers(f"http://127.0.0.1:{port}{SERVERS[name]}"), 90, f"{ref} answers")
    node.containerd.kill(container)
    node.containerd.remove_image(ref)


def runs_lazily(node, name, ref):
    pulled = node.pagein.json("pull", "-a", node.containerd.address, "-n", node.containerd.namespace, ref)
    assert {layer["state"] for layer in pulled["layers"]} == {"lazy"}
    port = free_port()
    container = node.containerd.run_detached(ref, snapshotter="pagein", env={"PORT": port})
    wait_until(lambda: answers(f"http://127.0.0.1:{port}{SERVERS[name]}"), 90, f"{ref} answers")
    base = node.registry.ref(name)
    node.containerd.pull(base)
    with node.containerd.mounted_image(base) as plain, \
            node.containerd.mounted_image(ref, snapshotter="pagein") as mounted:
        assert differences(plain, mounted) == []
    wait_until(node.pageind.complete, 120, "the rest is loaded")
    node.containerd.kill(container)
    # The next encoding has to be fetched, not found.
    node.containerd.remove_image(ref)
    node.containerd.remove_image(base)


@pytest.mark.parametrize("tag", TAGS.values())
def test_mounted_without_containerd_it_shows_the_same_files(node, tag):
    layout = lazy.make_layout(node.pageind.folder / ("layout_" + tag), [
        {"big": lazy.text_bytes(3_000_001, 1), "one/a": b"a", "one/b": lazy.text_bytes(70_000, 2)},
        {"big2": lazy.text_bytes(300_000, 3), "one/b": b"replaced"}])
    push_image(layout, "latest", node.registry, "files")
    node.convert("files")
    point = lazy.mount(node.pageind, node.registry.ref("files", tag), tag)
    try:
        assert lazy.read(point / "big", 1_500_000, 5000) == lazy.sha256(lazy.text_bytes(3_000_001, 1)[1_500_000:1_505_000])
        assert lazy.read(point / "big") == lazy.sha256(lazy.text_bytes(3_000_001, 1))
        assert lazy.read(point / "big2") == lazy.sha256(lazy.text_bytes(300_000, 3))
        assert (point / "one/b").read_bytes() == b"replaced"
        assert (point / "one/a").read_bytes() == b"a"
    finally:
        lazy.umount(node.pageind, point)


def test_the_same_command_gives_the_same_digests(node, images):
    push_image(images("small"), "latest", node.registry, "again")
    first = node.convert("again", "--threads", "1", "--jobs", "1")
    second = node.convert("again", "--threads", "5", "--jobs", "3")
    assert [image["digest"] for image in first["images"]] == [image["digest"] for image in second["images"]]


def test_one_encoding_goes_where_it_is_sent(node, images):
    push_image(images("small"), "latest", node.registry, "single")
    target = node.registry.ref("single", "mine")
    report = node.pagein.json("convert", "--mode", "full", "--encodings", "zstd", "--no-cache",
                              node.registry.ref("single"), target)
    assert [image["destination"] for image in report["images"]] == [target]
    assert node.pagein.json("check", node.registry.ref("single"), target)["same"]


def test_the_seek_table_is_the_standards(node, images):
    push_image(images("small"), "latest", node.registry, "table")
    image = node.convert("table", "--encodings", "zstd")["images"][0]
    for layer in image["layers"]:
        blob = get_blob(node.registry, "table", layer["published"]["digest"])
        assert blob[-4:] == bytes.fromhex("b1ea928f"), "the seekable format's magic number"
        frames, flags = int.from_bytes(blob[-9:-5], "little"), blob[-5]
        assert flags == 0 and frames == layer["spans"]
        table = blob[-9 - 8 * frames:-9]
        sizes = [int.from_bytes(table[at:at + 4], "little") for at in range(0, len(table), 4)]
        skippable = blob[-17 - 8 * frames:-9 - 8 * frames]
        assert skippable == bytes.fromhex("5e2a4d18") + (8 * frames + 9).to_bytes(4, "little")
        assert sum(sizes[0::2]) + 8 * frames + 17 == len(blob)
        assert sum(sizes[1::2]) == layer["tar_bytes"]


@pytest.mark.parametrize("name", [oddity.name for oddity in recipe_nasty.oddities()] + ["docker", "hundred"])
def test_every_oddity_is_the_same_in_both_encodings(node, images, name):
    push_image(images("nasty"), name, node.registry, "nasty", name)
    ref = node.registry.ref("nasty", name)
    report = node.pagein.json("convert", "--mode", "full", "--no-cache", ref)
    for image in report["images"]:
        assert node.pagein.json("check", ref, image["destination"])["same"]


def push_with_zstd_layers(registry, repository, base, folder, encode):
    """Pushes an image with the layers of `base` as encode(tar) makes them."""
    manifest, paths = oci_layout.load_manifest(base, "latest")
    config = json.loads(oci_layout.blob_path(base, manifest["config"]["digest"]).read_text())
    layout = oci_layout.Layout(folder)
    layers = []
    for number, path in enumerate(paths):
        file = folder / f"layer{number}.zst"
        file.write_bytes(encode(gzip.decompress(path.read_bytes())))
        layers.append(oci_layout.Layer(file, LAYER_TYPE + "zstd", config["rootfs"]["diff_ids"][number]))
    layout.add_image("latest", layers, config["config"])
    push_image(layout.folder, "latest", registry, repository)
    return registry.ref(repository)


def zstd(data, *flags):
    return subprocess.run(["zstd", "-q", "-c", *flags], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("flags", [["-3"], ["-3", "--long=24", "--no-check"]], ids=["plain", "long"])
def test_zstd_layers_are_a_base_too(node, images, flags, tmp_path):
    """One long frame, as most encoders write it, converted in full."""
    name = "zstd" + str(len(flags))
    ref = push_with_zstd_layers(node.registry, name, images("small"), tmp_path, lambda tar: zstd(tar, *flags))
    for image in node.convert(name)["images"]:
        assert {layer["outcome"] for layer in image["layers"]} == {"indexed"}
        assert node.pagein.json("check", ref, image["destination"])["same"]


def test_zstd_layers_of_short_frames_are_indexed_as_they_are(node, images, tmp_path):
    def encode(tar):
        return b"".join(zstd(tar[at:at + 100_000], "-1") for at in range(0, len(tar), 100_000)) + SKIPPABLE_FRAME

    push_image(images("small"), "latest", node.registry, "small")
    ref = push_with_zstd_layers(node.registry, "frames", images("small"), tmp_path, encode)
    report = node.pagein.json("convert", "--no-cache", ref)
    assert {layer["outcome"] for layer in report["layers"]} == {"indexed"}
    assert node.pagein.json("check", ref, report["destination"])["same"]
    runs_lazily(node, "small", report["destination"])


def test_an_interrupted_conversion_publishes_nothing_and_goes_on(node, images, tmp_path):
    push_image(images("python"), "latest", node.registry, "stopped")
    ref = node.registry.ref("stopped")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    command = [build_dir.program("pagein"), "convert", "--mode", "full", "--jobs", "1", "--threads", "1", ref]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, encoding="utf-8") as conversion:
        assert "re-encoded" in conversion.stderr.readline(), "the first layer is done"
        conversion.send_signal(signal.SIGINT)
        assert conversion.wait(60) == 130
    for tag in TAGS.values():
        with pytest.raises(urllib.error.HTTPError):
            lazy.image_manifest(node.registry, "stopped", tag)
    report = Pagein(env={"XDG_CACHE_HOME": str(tmp_path)}).json("convert", "--mode", "full", ref, timeout=300)
    for image in report["images"]:
        assert sorted({layer["outcome"] for layer in image["layers"]}) == ["indexed", "reused"]


def test_what_was_made_is_not_made_again(node, images, tmp_path):
    push_image(images("small"), "latest", node.registry, "cached")
    pagein = Pagein(env={"XDG_CACHE_HOME": str(tmp_path)})

    def convert():
        return pagein.json("convert", "--mode", "full", node.registry.ref("cached"))
    first, second = convert(), convert()
    assert {layer["outcome"] for image in first["images"] for layer in image["layers"]} == {"indexed"}
    assert {layer["outcome"] for image in second["images"] for layer in image["layers"]} == {"reused"}
    assert [image["digest"] for image in first["images"]] == [image["digest"] for image in second["images"]]
    # Where the blobs are not, the cache says nothing.
    push_image(images("small"), "latest", node.registry, "elsewhere")
    third = pagein.json("convert", "--mode", "full", node.registry.ref("elsewhere"))
    assert {layer["outcome"] for image in third["images"] for layer in image["layers"]} == {"indexed"}
