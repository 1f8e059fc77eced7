"""Layers that are one long zstd frame, as most encoders write them: indexed as they are, and paged in from the middle."""

import errno
import json
import subprocess

import pytest

from images import oci_layout
from testbed import Containerd, CorruptByte, FaultProxy, Registry, lazy, push_image, wait_until
from testbed.fixtures import require
from testbed.pagein import Pagein
from testbed.pageind import Pageind
from testbed.process import free_port, run_command
from test_full_mode import LAYER_TYPE, push_with_zstd_layers, zstd
from test_lazy_images import answers, differences

MIB = 1 << 20
# With parts that come again, so that what lies behind a place refers to what was before it.
BIG = b"".join(lazy.text_bytes(100_000, number) + lazy.text_bytes(3_000, number % 5) for number in range(10, 260))
BIG_DIGEST = lazy.sha256(BIG)


@pytest.fixture(scope="module")
def registry():
    require(Registry, Pagein, Pageind)
    with Registry() as started:
        yield started


def by_zstd(registry, repository, base, folder):
    return push_with_zstd_layers(registry, repository, base, folder, lambda tar: zstd(tar, "-3"))


def by_skopeo(registry, repository, base, _folder):
    """What containers/image (podman, buildah, skopeo) and, by the same library, BuildKit make."""
    ref = registry.ref(repository)
    run_command(["skopeo", "--insecure-policy", "copy", "--dest-compress-format", "zstd", "--dest-tls-verify=false",
                 "--dest-no-creds", f"oci:{base}:latest", f"docker://{ref}"], timeout=600)
    return ref


def convert(ref, *flags):
    return Pagein().json("convert", "--no-cache", *flags, ref, timeout=600)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("encode", [by_zstd, by_skopeo])
def test_an_image_starts_from_long_frames(registry, images, encode, tmp_path):
    """The layers stay the registry's own; what a start fetches is a part of them; every file is the same."""
    require(Containerd)
    base = images("python")
    ref = encode(registry, encode.__name__, base, tmp_path)
    manifest = lazy.image_manifest(registry, encode.__name__, "latest")[0]
    assert {layer["mediaType"] for layer in manifest["layers"]} == {LAYER_TYPE + "zstd"}
    report = convert(ref)
    assert {layer["outcome"] for layer in report["layers"]} == {"indexed"}
    for layer in report["layers"]:
        if layer["bytes"] > 8 * MIB:
            assert layer["index"]["bytes"] <= 0.05 * layer["bytes"]
            assert layer["spans"] > 3
    accelerated = report["destination"]
    layers = lazy.layers_of(registry, encode.__name__)
    assert [layer["digest"] for layer in layers] == [layer["digest"] for layer in manifest["layers"]]
    assert Pagein().json("check", ref, accelerated, timeout=600)["same"]

    config = {"trust": {"repositories": [registry.address + "/*"]}, "fetch": {"background": False}}
    with Pageind(config) as pageind, Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        pulled = Pagein().json("pull", "-a", containerd.address, "-n", containerd.namespace, accelerated)
        assert {layer["state"] for layer in pulled["layers"]} == {"lazy"}
        port = free_port()
        container = containerd.run_detached(accelerated, snapshotter="pagein", env={"PORT": port})
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/"), 90, f"{accelerated} answers")
        fetched = pageind.metric("pagein_fetch_bytes_total")
        assert 0 < fetched < 0.9 * report["layer_bytes"]
        containerd.pull(ref)
        with containerd.mounted_image(ref) as plain, \
                containerd.mounted_image(accelerated, snapshotter="pagein") as mounted:
            assert differences(plain, mounted) == []
        assert pageind.metric("pagein_verify_failures_total") == 0
        containerd.kill(container)


def test_zstd_chunked_needs_no_checkpoints(registry, images, tmp_path):
    """Frames by file, and a table of contents in skippable frames.

    skopeo 1.9 leaves the tars' ends out and the diffIDs as they were, so that no client takes its image: the layers are
    its own, the config is made anew.
    """
    chunked = tmp_path / "chunked"
    run_command(["skopeo", "--insecure-policy", "copy", "--dest-compress", "--dest-compress-format", "zstd:chunked",
                 f"oci:{images('small')}:latest", f"dir:{chunked}"], timeout=600)
    layout, layers = oci_layout.Layout(tmp_path / "layout"), []
    for layer in json.loads((chunked / "manifest.json").read_text())["layers"]:
        blob = chunked / layer["digest"].removeprefix("sha256:")
        tar = subprocess.run(["zstd", "-q", "-d", "-c", blob], capture_output=True, check=True).stdout
        layers.append(oci_layout.Layer(blob, LAYER_TYPE + "zstd", oci_layout.bytes_digest(tar)))
    layout.add_image("latest", layers, {})
    push_image(layout.folder, "latest", registry, "chunked")
    ref = registry.ref("chunked")
    report = convert(ref)
    assert {layer["outcome"] for layer in report["layers"]} == {"indexed"}
    for layer in lazy.layers_of(registry, "chunked"):
        _, size, head = lazy.index_of(layer)
        assert size == head
    assert Pagein().json("check", ref, report["destination"])["same"]
    with Pageind({"trust": {"repositories": [registry.address + "/*"]}}) as pageind:
        assert (lazy.mount(pageind, report["destination"]) / "www/index.html").read_bytes()


def push_files(registry, repository, tmp_path, encode):
    layout = lazy.make_layout(tmp_path / "plain", [{"big": BIG, "small": b"small"}])
    return push_with_zstd_layers(registry, repository, layout, tmp_path, encode)


def test_one_byte_of_a_long_frame(registry, tmp_path):
    """It is fetched again where it was wrong once, and EIO where it always is; the checkpoints' bytes likewise."""
    ref = push_files(registry, "corrupt", tmp_path, lambda tar: zstd(tar, "-3"))
    convert(ref)
    layer = lazy.layers_of(registry, "corrupt")[-1]
    index, size, head = lazy.index_of(layer)
    assert size > head, "it has checkpoints inside the frame"
    middle = layer["size"] // 2
    with FaultProxy(registry) as proxy:
        config = {"trust": {"repositories": [proxy.address + "/*"]},
                  "fetch": {"background": False, "deadline_seconds": 3}}
        with Pageind(config) as pageind:
            big = lazy.mount(pageind, proxy.ref("corrupt", lazy.ACCELERATED)) / "big"
            proxy.add(CorruptByte(middle), kind="blob", digest=layer["digest"])
            assert lazy.read(big, timeout=60) == errno.EIO
            assert lazy.read(big, 0, 4096) == lazy.sha256(BIG[:4096]), "elsewhere all is well"
            proxy.clear()
            once = proxy.add(CorruptByte(middle), times=1, kind="blob", digest=layer["digest"],
                             overlaps=(middle, middle + 1))
            damaged = proxy.add(CorruptByte(head + 7, every=64, mask=0x55), times=1, kind="blob", digest=index,
                                overlaps=(head, size))
            assert lazy.read(big, timeout=60) == BIG_DIGEST
            assert once.hits == 1 and damaged.hits == 1
            assert pageind.metric("pagein_verify_failures_total") > 1


def test_long_and_short_frames_and_long_windows(registry, tmp_path):
    def encode(tar):
        head, middle, tail = tar[:300_000], tar[300_000:15 * MIB], tar[15 * MIB:]
        return zstd(head, "-1") + zstd(middle, "-3", "--no-check") + bytes.fromhex("502a4d1802000000ffff") \
            + zstd(tail, "-5", "--long=27")

    ref = push_files(registry, "frames", tmp_path, encode)
    report = convert(ref)
    assert [layer["outcome"] for layer in report["layers"]] == ["indexed"]
    assert Pagein().json("check", ref, report["destination"])["same"]
    with Pageind({"trust": {"repositories": [registry.address + "/*"]}}) as pageind:
        point = lazy.mount(pageind, report["destination"])
        for offset in (20 * MIB, 5 * MIB, 100):
            assert lazy.read(point / "big", offset, 5000) == lazy.sha256(BIG[offset:offset + 5000])
        assert lazy.read(point / "big") == BIG_DIGEST
        assert (point / "small").read_bytes() == b"small"


def test_what_would_cost_too_much_is_left_and_says_so(registry, images, tmp_path):
    ref = by_zstd(registry, "dear", images("python"), tmp_path)
    report = convert(ref, "--max-index-share", "0.1")
    left = [layer for layer in report["layers"] if layer["outcome"] == "left"]
    assert left and any(layer["outcome"] == "indexed" for layer in report["layers"]), "small layers need none"
    for layer in left:
        assert "--max-index-share" in layer["reason"] and "0.1%" in layer["reason"]
    assert Pagein().json("check", ref, report["destination"])["same"]
