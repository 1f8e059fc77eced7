"""Images that were never converted pull and run through the snapshotter as they do with overlayfs."""

import pathlib
import subprocess
import time

import pytest

from testbed import Containerd, Registry, compare_trees, push_image, wait_until
from testbed.containerd import CtrError
from testbed.fixtures import require
from testbed.pageind import Pageind

IMAGE = "small"


@pytest.fixture
def node(registry, images):
    """A daemon that trusts no repository, and a containerd with it as a plugin."""
    require(Registry, Containerd, Pageind)
    push_image(images(IMAGE), "latest", registry, IMAGE)
    with Pageind() as pageind, Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        yield registry.ref(IMAGE), pageind, containerd


def folders(pageind):
    """The snapshotter's folders of ordinary layers and containers."""
    return list((pathlib.Path(pageind.config["root"]) / "snapshotter" / "snapshots").iterdir())


def test_the_tree_is_that_of_overlayfs(node):
    ref, _, containerd = node
    containerd.pull(ref, snapshotter="pagein")
    containerd.pull(ref)
    assert containerd.snapshots("pagein").keys() == containerd.snapshots().keys()
    with containerd.mounted_image(ref) as plain, containerd.mounted_image(ref, "pagein") as ours:
        # No layer names the root folder, so its time is that of unpacking.
        assert [line for line in compare_trees(plain, ours) if not line.startswith(".: mtime_ns")] == []


def test_containers_write_and_leave_nothing(node):
    ref, pageind, containerd = node
    containerd.pull(ref, snapshotter="pagein")
    before = folders(pageind)
    script = "echo new > /new && rm -rf /etc && mkdir /etc && echo $(cat /new) $(ls /etc | wc -l)"
    assert containerd.run(ref, ["/bin/sh", "-c", script], snapshotter="pagein").strip() == "new 0"
    wait_until(lambda: sorted(folders(pageind)) == sorted(before), 10, "the container's folder goes")
    containerd.remove_image(ref)
    assert containerd.snapshots("pagein") == {}
    assert folders(pageind) == []


@pytest.mark.parametrize("delay", [0.05, 0.2, 0.5])
def test_a_crash_in_a_pull_leaves_no_orphan(node, delay):
    ref, pageind, containerd = node
    pull = subprocess.Popen(
        ["ctr", "-a", containerd.address, "-n", containerd.namespace, "images", "pull", "--plain-http",
         "--snapshotter", "pagein", ref], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(delay)  # where in the pull it falls does not matter, only that it differs
    pageind.kill9()
    pull.wait(timeout=60)
    pageind.start()
    pull_again(containerd, ref)
    assert containerd.run(ref, ["/bin/sh", "-c", "echo alive"], snapshotter="pagein").strip() == "alive"
    containerd.remove_image(ref)
    wait_until(lambda: folders(pageind) == [], 20, "all folders are gone")


def pull_again(containerd, ref):
    """containerd finds the plugin's socket again after at most a second or two."""
    def pulled():
        try:
            containerd.pull(ref, snapshotter="pagein")
            return True
        except CtrError as error:
            if "connection" in error.output or "unavailable" in error.output:
                return False
            raise
    wait_until(pulled, 30, "a pull after the crash")
