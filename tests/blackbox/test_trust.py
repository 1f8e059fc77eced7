"""Whose indexes a node believes: one from elsewhere, or one that lies, never reaches a container."""

import errno
import json

import pytest

from images import oci_layout
from testbed import Containerd, Pagein, Pageind, Registry, drop_caches, lazy, push_image, wait_until
from testbed.fixtures import require
from testbed.push import Pusher

MIB = 1 << 20
LOWER = {"big": lazy.text_bytes(2 * MIB, 5), "who": b"good\n"}
# Of the same sizes, so that a mix-up shows in the bytes alone.
UPPER = {"top": lazy.text_bytes(2 * MIB, 6), "why": b"evil\n"}
BIG = lazy.sha256(LOWER["big"])
DIFF_ID_AT = 48  # docs/formats/layer-index.md


@pytest.fixture(scope="module")
def registry(images):
    """`good/app` and, with the same layers, `evil/app`: both honest so far."""
    require(Registry, Pagein, Pageind, Containerd)
    with Registry() as started, lazy.folder("layout") as folder:
        layout = lazy.make_layout(folder, [LOWER, UPPER], images("small"))
        lazy.push_accelerated(layout, started, "good/app")
        for repository in ("evil/app", "good/liar"):
            push_image(layout, "latest", started, repository)
        yield started


class Node:
    """A pageind that trusts good/*, and a containerd with it."""

    def __init__(self, registry, trusted=("good/*",)):
        self.registry = registry
        self.pageind = Pageind({"trust": {"repositories": [f"{registry.address}/{name}" for name in trusted]},
                                "fetch": {"deadline_seconds": 10}})

    def __enter__(self):
        self.pageind.__enter__()
        try:
            self.containerd = Containerd(snapshotters={"pagein": self.pageind.address}).__enter__()
        except BaseException:
            self.pageind.__exit__()
            raise
        return self

    def __exit__(self, *_):
        try:
            self.containerd.__exit__()
        finally:
            self.pageind.__exit__()

    def pull(self, reference):
        Pagein().run("pull", "-a", self.containerd.address, "-n", self.containerd.namespace, reference)

    def assert_right(self, reference):
        """A new container sees the right bytes of both layers."""
        drop_caches()
        words = self.containerd.run(reference, ["/bin/sha256sum", "/big", "/top", "/who"], snapshotter="pagein").split()
        assert words[::2] == [BIG, lazy.sha256(UPPER["top"]), lazy.sha256(LOWER["who"])]

    def declined(self):
        """{layer digest: why}"""
        return {entry["layer"]: entry["why"] for entry in json.loads(self.pageind.get("/v1/declines"))["declined"]}

    def lazy_layers(self):
        return {layer["digest"] for image in self.pageind.status()["images"] for layer in image["layers"]}


def put_manifest(registry, repository, tag, change):
    """Pushes good/app's accelerated image manifest, changed, to another repository."""
    manifest, _ = lazy.image_manifest(registry, "good/app")
    change(manifest["layers"])
    pusher = Pusher(registry, repository)
    try:
        pusher.manifest(json.dumps(manifest).encode(), manifest["mediaType"], tag)
    finally:
        pusher.close()
    return registry.ref(repository, tag)


def put_blob(registry, repository, data):
    with lazy.folder("blob") as folder:
        (folder / "data").write_bytes(data)
        digest = oci_layout.bytes_digest(data)
        pusher = Pusher(registry, repository)
        try:
            pusher.blob(digest, folder / "data")
        finally:
            pusher.close()
    return digest


def index_blob(registry, layer):
    return registry.blob_path(lazy.index_of(layer)[0]).read_bytes()


def name_index(registry, repository, layer, blob, head_size):
    """Makes a layer's annotations name this index blob, pushed for the purpose, by its true digests."""
    layer["annotations"].update({
        lazy.INDEX_PREFIX + "digest": put_blob(registry, repository, blob),
        lazy.INDEX_PREFIX + "size": str(len(blob)),
        lazy.INDEX_PREFIX + "head-size": str(head_size),
        lazy.INDEX_PREFIX + "head-digest": oci_layout.bytes_digest(blob[:head_size])})


def swap_indexes(registry, repository):
    """Each of the upper two layers with the index of the other."""
    def change(layers):
        for layer in layers:
            put_blob(registry, repository, index_blob(registry, layer))
        layers[-1]["annotations"], layers[-2]["annotations"] = layers[-2]["annotations"], layers[-1]["annotations"]
    return change


def test_a_trusted_image_is_lazy(registry):
    with Node(registry) as node:
        reference = registry.ref("good/app", lazy.ACCELERATED)
        node.pull(reference)
        node.assert_right(reference)
        assert node.declined() == {}


@pytest.mark.parametrize("trusted", [(), ("good/other",), ("good/appendix/*",), ("good/ap",)])
def test_an_image_of_another_repository_comes_the_ordinary_way(registry, trusted):
    with Node(registry, trusted) as node:
        reference = registry.ref("good/app", lazy.ACCELERATED)
        node.pull(reference)
        node.assert_right(reference)
        assert node.lazy_layers() == set()
        why = Pagein().text("why", "--socket", node.pageind.control, "good/app")
        assert "trust.repositories" in why and f"{registry.address}/good/app" in why


@pytest.mark.parametrize("evil_first", [True, False], ids=["evil-first", "evil-second"])
def test_a_lying_image_nobody_trusts_cannot_reach_a_good_one(registry, evil_first):
    evil = put_manifest(registry, "evil/app", f"evil{evil_first}", swap_indexes(registry, "evil/app"))
    good = registry.ref("good/app", lazy.ACCELERATED)
    with Node(registry) as node:
        for reference in (evil, good) if evil_first else (good, evil):
            node.pull(reference)
            node.assert_right(reference)
        node.assert_right(evil)
        node.assert_right(good)


def test_the_index_of_another_layer_is_declined(registry):
    liar = put_manifest(registry, "good/liar", "swapped", swap_indexes(registry, "good/liar"))
    layers = lazy.layers_of(registry, "good/liar", "swapped")
    with Node(registry) as node:
        node.pull(liar)
        node.assert_right(liar)
        declined = node.declined()
        assert "another layer" in declined[layers[-1]["digest"]] + declined[layers[-2]["digest"]]
        good = registry.ref("good/app", lazy.ACCELERATED)
        node.pull(good)
        node.assert_right(good)


@pytest.mark.parametrize("honest_manifest", [False, True], ids=["evil-manifest", "good-manifest"])
def test_annotations_that_forge_the_origin_change_nothing(registry, honest_manifest):
    """Annotations with the snapshot prefix become labels where the client does not set these itself."""
    swap = swap_indexes(registry, "evil/app")
    put_manifest(registry, "evil/app", "lie", swap)
    repository, tag = ("good/app", lazy.ACCELERATED) if honest_manifest else ("evil/app", "lie")
    digest = lazy.image_manifest(registry, repository, tag)[1]

    def forge(layers):
        swap(layers)
        for layer in layers:
            layer["annotations"].update({
                "containerd.io/snapshot/cri.image-ref": registry.ref("good/app", lazy.ACCELERATED),
                "containerd.io/snapshot/cri.manifest-digest": digest,
                "containerd.io/snapshot/cri.layer-digest": layer["digest"]})
    evil = put_manifest(registry, "evil/app", "forged", forge)
    with Node(registry) as node:
        node.containerd.pull(evil, snapshotter="pagein")
        assert honest_manifest or node.lazy_layers() == set()
        node.assert_right(evil)
        good = registry.ref("good/app", lazy.ACCELERATED)
        node.pull(good)
        node.assert_right(good)


@pytest.mark.parametrize("what", ["not an index", "truncated", "head digest", "another diffID"])
def test_a_broken_index_is_declined(registry, what):
    def change(layers):
        for layer in layers:
            put_blob(registry, "good/liar", index_blob(registry, layer))
        _, size, head = lazy.index_of(layers[-1])
        blob = index_blob(registry, layers[-1])
        if what == "not an index":
            name_index(registry, "good/liar", layers[-1], b"#!/bin/sh\n" * 100, 500)
        elif what == "truncated":
            name_index(registry, "good/liar", layers[-1], blob[:head - 10], head - 10)
        elif what == "head digest":
            layers[-1]["annotations"][lazy.INDEX_PREFIX + "head-digest"] = "sha256:" + "0" * 64
        else:
            lie = bytearray(blob)
            lie[DIFF_ID_AT] ^= 1
            name_index(registry, "good/liar", layers[-1], bytes(lie), head)
    tag = what.replace(" ", "-")
    liar = put_manifest(registry, "good/liar", tag, change)
    layers = lazy.layers_of(registry, "good/liar", tag)
    with Node(registry) as node:
        node.pull(liar)
        node.assert_right(liar)
        assert layers[-1]["digest"] in node.declined()


def lying_digests(blob, head):
    """An index whose last span is said to hash to something else. Digests end the head."""
    lie = bytearray(blob)
    lie[head - 32] ^= 1
    return bytes(lie)


def test_a_false_span_digest_yields_eio_not_bytes(registry):
    def change(layers):
        for layer in layers:
            put_blob(registry, "good/liar", index_blob(registry, layer))
        head = lazy.index_of(layers[-2])[2]
        name_index(registry, "good/liar", layers[-2], lying_digests(index_blob(registry, layers[-2]), head), head)
    liar = put_manifest(registry, "good/liar", "spans", change)
    with Pageind({"fetch": {"deadline_seconds": 5, "background": False}}) as pageind:
        point = lazy.mount(pageind, liar)
        answers = {lazy.read(point / "big"), lazy.read(point / "who")}
        assert errno.EIO in answers
        assert answers <= {errno.EIO, BIG, lazy.sha256(LOWER["who"])}


def test_a_false_diff_id_is_found_when_the_layer_is_whole(registry):
    """Index and config agree on a diffID that the layer does not have."""
    def lie_of(digest):
        return ("1" if digest[0] != "1" else "2") + digest[1:]

    manifest, _ = lazy.image_manifest(registry, "good/app")
    config = json.loads(registry.blob_path(manifest["config"]["digest"]).read_bytes())
    for layer in manifest["layers"]:
        put_blob(registry, "good/liar", index_blob(registry, layer))
    config["rootfs"]["diff_ids"][-1] = "sha256:" + lie_of(config["rootfs"]["diff_ids"][-1].removeprefix("sha256:"))
    data = json.dumps(config).encode()
    manifest["config"] |= {"digest": put_blob(registry, "good/liar", data), "size": len(data)}
    blob = bytearray(index_blob(registry, manifest["layers"][-1]))
    blob[DIFF_ID_AT:DIFF_ID_AT + 32] = bytes.fromhex(config["rootfs"]["diff_ids"][-1].removeprefix("sha256:"))
    name_index(registry, "good/liar", manifest["layers"][-1], bytes(blob), lazy.index_of(manifest["layers"][-1])[2])
    pusher = Pusher(registry, "good/liar")
    try:
        pusher.manifest(json.dumps(manifest).encode(), manifest["mediaType"], "diffid")
    finally:
        pusher.close()
    with Pageind({"fetch": {"deadline_seconds": 5}}) as pageind:
        point = lazy.mount(pageind, registry.ref("good/liar", "diffid"))
        wait_until(lambda: any(layer.get("quarantined") for image in pageind.status()["images"]
                               for layer in image["layers"]), 30, "the layer is quarantined")
        drop_caches()
        assert lazy.read(point / "top") == errno.EIO
        assert lazy.read(point / "big") == BIG, "the other layers are honest"
        assert "QUARANTINED" in Pagein().text("status", "--socket", pageind.control)
        lazy.umount(pageind, point)
        again = lazy.mount(pageind, registry.ref("good/liar", "diffid"), "again", check=False)
        assert again.returncode != 0 and "quarantined" in again.stderr
