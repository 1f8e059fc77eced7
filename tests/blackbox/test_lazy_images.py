"""Real images, converted and run lazily by the real containerd, show the same tree as a plain pull and start early."""

import collections
import json
import re
import time
import urllib.request

import pytest

from images import recipe_nasty
from testbed import Containerd, Registry, compare_trees, push_image, wait_until
from testbed.fixtures import require
from testbed.pagein import Pagein
from testbed.pageind import Pageind
from testbed.process import free_port
from testbed.treecmp import Ignore

# Image: path to ask, and the share of its layers that it may have waited for when it answers (None: too small). What
# the background load brings meanwhile depends on the link.
SERVERS = {"small": ("/index.html", None), "python": ("/", 0.75), "nodeapp": ("/healthz/readiness", 0.75)}


class Node:
    """One registry, one daemon that trusts it, one containerd."""

    def __init__(self, registry, pageind, containerd):
        self.registry, self.pageind, self.containerd = registry, pageind, containerd
        self.pagein = Pagein()

    def convert(self, ref):
        report = self.pagein.json("convert", "--no-cache", ref, timeout=600)
        assert report["destination"] == ref + "_accelerated"
        return report

    def pull_lazily(self, ref):
        return self.pagein.json("pull", "-a", self.containerd.address, "-n", self.containerd.namespace, ref)

    def declined(self, ref):
        """{layer digest: why} of what `pagein why` says of an image."""
        return {entry["layer"]: entry["why"] for entry in json.loads(self.pageind.get("/v1/declines"))["declined"]
                if entry["image"] == ref}

    def held_layers(self):
        """{holder of a mount: number of layers that it sees through the daemon's mounts}."""
        held = collections.Counter()
        for image in self.pageind.status()["images"]:
            for mount in image["mounts"]:
                for holder in mount["holders"]:
                    held[holder] += len(image["layers"])
        return held


@pytest.fixture(scope="module")
def node():
    require(Registry, Containerd, Pageind, Pagein)
    with Registry() as registry, \
            Pageind({"trust": {"repositories": [registry.address + "/*"]}}) as pageind, \
            Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        yield Node(registry, pageind, containerd)


def waited_for(pageind):
    return pageind.status()["fetched_bytes"]["demand"]


def answers(url):
    try:
        with urllib.request.urlopen(url, timeout=2) as reply:
            return reply.read()
    except OSError:
        return None


START_NS = time.time_ns()
_DIRECTORY_TIME = re.compile(r".*: mtime_ns (\d+) != (\d+)$", re.DOTALL)


def differences(plain, lazy, ignore=Ignore()):
    """Between a plain pull's tree and the lazy one.

    Unpacking leaves its own time on directories that no layer names, or that a later whiteout or replacement changed;
    the lazy tree has the time that the tar gives.
    """
    def is_time_of_unpacking(line):
        match = _DIRECTORY_TIME.match(line)
        return match and int(match.group(1)) >= START_NS
    return [line for line in compare_trees(plain, lazy, ignore, limit=1000) if not is_time_of_unpacking(line)]


def assert_lazy(node, converted, pulled):
    """Every layer that has an index is served lazily, unless it stands on one that has none; the number of lazy ones.

    A layer may be `present` because of another image, whatever that was.
    """
    outcomes = [layer["outcome"] for layer in converted["layers"]]
    states = [layer["state"] for layer in pulled["layers"]]
    assert len(outcomes) == len(states)
    first_without = outcomes.index("left") if "left" in outcomes else len(outcomes)
    declined = node.declined(pulled["image"])
    indexed = {layer["digest"] for layer in converted["layers"][:first_without]}
    assert not {digest: why for digest, why in declined.items() if digest in indexed}
    assert set(states[:first_without]) <= {"lazy", "present"}, f"{states}; declined: {declined}"
    assert pulled["lazy_layers"] == states.count("lazy")
    return states.count("lazy")


@pytest.mark.timeout(1200)  # two trees of a hundred thousand files are read and compared
@pytest.mark.parametrize("name", SERVERS)
def test_server_answers_before_its_image_is_there_and_all_bytes_are_right(node, images, name):
    path, share = SERVERS[name]
    push_image(images(name), "latest", node.registry, name)
    ref = node.registry.ref(name)
    report = node.convert(ref)
    assert {layer["outcome"] for layer in report["layers"]} == {"indexed"}
    assert node.pagein.json("check", ref, ref + "_accelerated", timeout=600)["same"]

    before = waited_for(node.pageind)
    pulled = node.pull_lazily(ref + "_accelerated")
    # Another image of this test may have brought a base layer.
    assert {layer["state"] for layer in pulled["layers"]} <= {"lazy", "present"}
    assert pulled["lazy_layers"] > 0 and pulled["fetched_bytes"] == 0
    port = free_port()
    container = node.containerd.run_detached(ref + "_accelerated", snapshotter="pagein", env={"PORT": port})
    assert wait_until(lambda: answers(f"http://127.0.0.1:{port}{path}"), 90, f"{name} answers")
    at_ready = waited_for(node.pageind) - before
    if share is not None:
        assert at_ready < share * report["layer_bytes"], "it waited for most of the image"

    node.containerd.pull(ref)
    with node.containerd.mounted_image(ref) as plain, \
            node.containerd.mounted_image(ref + "_accelerated", snapshotter="pagein") as lazy:
        assert differences(plain, lazy) == []
    wait_until(node.pageind.complete, 120, "the rest is loaded")
    with node.containerd.mounted_image(ref + "_accelerated", snapshotter="pagein") as lazy, \
            node.containerd.mounted_image(ref) as plain:
        assert any(not mount["needs_daemon"] for image in node.pageind.status()["images"]
                   for mount in image["mounts"]), "a complete image is mounted from local data"
        assert differences(plain, lazy) == []
    node.containerd.kill(container)


@pytest.mark.parametrize("name", [oddity.name for oddity in recipe_nasty.oddities()] + ["docker", "hundred"])
def test_every_oddity_shows_the_tree_of_a_plain_pull(node, images, name):
    push_image(images("nasty"), name, node.registry, "nasty", name)
    ref = node.registry.ref("nasty", name)
    converted = node.convert(ref)
    assert node.pagein.json("check", ref, ref + "_accelerated")["same"]
    node.containerd.pull(ref)
    lazy_layers = assert_lazy(node, converted, node.pull_lazily(ref + "_accelerated"))
    held = node.held_layers()
    assert node.containerd.run(ref + "_accelerated", ["/bin/true"], snapshotter="pagein") == ""
    with node.containerd.mounted_image(ref) as plain, \
            node.containerd.mounted_image(ref + "_accelerated", snapshotter="pagein") as lazy:
        assert (node.held_layers() - held).total() >= lazy_layers, "its tree comes from the daemon's mounts"
        # nlink: overlayfs shows the lower file's count, also of names that a higher layer removed.
        assert differences(plain, lazy, Ignore(nlink=True)) == []

