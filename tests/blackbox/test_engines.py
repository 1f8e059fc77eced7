"""The same images on each mount engine: the tree of a plain pull, right bytes over a crash of the daemon, no leftovers."""

import json
import pathlib

import pytest

import test_lazy_images as lazy_images
from testbed import Containerd, Registry, drop_caches, lazy, push_image, wait_until
from testbed.fixtures import require
from testbed.pagein import Pagein
from testbed.pageind import Pageind
from testbed.treecmp import Ignore

ENGINES = ["erofs", "erofs-loop", "fuse"]
MIB = 1 << 20
FILES = {"big": lazy.text_bytes(8 * MIB, 4)}
BIG = lazy.sha256(FILES["big"])


@pytest.fixture(scope="module")
def registry():
    require(Registry, Containerd, Pageind, Pagein)
    with Registry() as started:
        yield started


@pytest.fixture(scope="module", params=ENGINES)
def node(registry, request):
    config = {"mount": {"engine": request.param}, "trust": {"repositories": [registry.address + "/*"]},
              "fetch": {"background": False}}
    with Pageind(config) as pageind, Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        found = json.loads(pageind.get("/v1/doctor"))["engine"]
        if not found["usable"]:
            pytest.skip(f"{request.param} does not work here: {found['findings']}")
        yield lazy_images.Node(registry, pageind, containerd)


def engines_of_mounts(pageind):
    return {mount["engine"] for image in pageind.status()["images"] for mount in image["mounts"]}


def loop_files(folder):
    """Backing files, below the folder, of loop devices that are in use."""
    files = [path.read_text().strip() for path in pathlib.Path("/sys/block").glob("loop*/loop/backing_file")]
    return [name for name in files if name.startswith(str(folder))]


@pytest.mark.parametrize("variant", ["docker", "hundred"])
def test_the_tree_is_that_of_a_plain_pull(node, images, variant):
    push_image(images("nasty"), variant, node.registry, "nasty", variant)
    ref = node.registry.ref("nasty", variant)
    converted = node.convert(ref)
    node.containerd.pull(ref)
    lazy_images.assert_lazy(node, converted, node.pull_lazily(ref + "_accelerated"))
    assert node.containerd.run(ref + "_accelerated", ["/bin/true"], snapshotter="pagein") == ""
    with node.containerd.mounted_image(ref) as plain, \
            node.containerd.mounted_image(ref + "_accelerated", snapshotter="pagein") as mounted:
        engine = json.loads(node.pageind.get("/v1/doctor"))["engine"]["name"]
        assert engines_of_mounts(node.pageind) == {engine}
        # nlink: overlayfs shows the lower file's count, also of names that a higher layer removed.
        assert lazy_images.differences(plain, mounted, Ignore(nlink=True)) == []


def test_a_crash_is_a_pause_and_nothing_is_left_behind(node):
    with lazy.folder("layout") as folder:
        lazy.push_accelerated(lazy.make_layout(folder, [FILES]), node.registry, "app")
    point = lazy.mount(node.pageind, node.registry.ref("app", lazy.ACCELERATED))
    big = point / "big"
    assert lazy.read(big, 0, MIB) == lazy.sha256(FILES["big"][:MIB])
    node.pageind.kill9()
    with lazy.Reader(big) as reader:
        node.pageind.start()
        assert reader.result(60) == BIG
    drop_caches()
    assert lazy.read(big) == BIG
    lazy.umount(node.pageind, point)
    wait_until(lambda: not loop_files(node.pageind.folder), 20, "the loop devices are gone")
    wait_until(lambda: not node.pageind.manager.stored_names(), 20, "the descriptors are given back")


def test_another_engine_goes_on_with_what_this_one_mounted(node):
    """The setting changes, the daemon restarts: readers go on, and new mounts are the new engine's."""
    with lazy.folder("layout") as folder:
        lazy.push_accelerated(lazy.make_layout(folder, [FILES]), node.registry, "change")
    before = node.pageind.config["mount"]["engine"]
    point = lazy.mount(node.pageind, node.registry.ref("change", lazy.ACCELERATED), "change")
    after = "fuse" if before != "fuse" else "erofs-loop"
    try:
        node.pageind.config["mount"]["engine"] = after
        node.pageind.restart()
        assert lazy.read(point / "big") == BIG
        assert before.split("-")[0] in "".join(engines_of_mounts(node.pageind))
    finally:
        node.pageind.config["mount"]["engine"] = before
        node.pageind.restart()
    assert lazy.read(point / "big") == BIG
    lazy.umount(node.pageind, point)


def test_auto_takes_the_best_and_doctor_tells_why():
    require(Pageind, Pagein)
    with Pageind() as pageind:
        pagein = Pagein()
        report = pagein.json("doctor", "--socket", pageind.control)
        assert [engine["name"] for engine in report["engines"]] == ENGINES
        assert all(engine["findings"] for engine in report["engines"])
        usable = [engine["name"] for engine in report["engines"] if engine["usable"]]
        assert report["engine"]["name"] == usable[0]
        shown = pagein.run("doctor", "--socket", pageind.control)
        assert f"engine {usable[0]} (chosen)" in shown.stdout
        assert "trust.repositories is empty" in shown.stdout
        assert pagein.run("doctor", "--socket", pageind.folder / "none", check=False).returncode == 1
