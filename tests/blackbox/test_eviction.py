"""The store keeps its limit: what no container needs makes room, what a container reads stays right."""

import pytest

from testbed import Containerd, Pagein, Pageind, Registry, drop_caches, lazy, wait_until
from testbed.fixtures import require

MIB = 1 << 20
LIMIT = 22 * MIB
NAMES = ["one", "two", "three"]


def content(name):
    return {"big": lazy.text_bytes(8 * MIB, NAMES.index(name))}


def digest(name):
    return lazy.sha256(content(name)["big"])


@pytest.fixture(scope="module")
def registry(images):
    require(Registry, Pagein, Pageind, Containerd)
    with Registry() as started:
        for name in NAMES:
            with lazy.folder("layout") as folder:
                lazy.push_accelerated(lazy.make_layout(folder, [content(name)], images("small")), started, name)
        yield started


@pytest.fixture
def node(registry):
    """(pageind, containerd) with room for two of the images."""
    config = {"trust": {"repositories": [registry.address + "/*"]}, "store": {"max_bytes": LIMIT}}
    with Pageind(config) as pageind, Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        yield pageind, containerd


def reference(registry, name):
    return registry.ref(name, lazy.ACCELERATED)


def run_once(node, registry, name):
    pageind, containerd = node
    Pagein().run("pull", "-a", containerd.address, "-n", containerd.namespace, reference(registry, name))
    words = containerd.run(reference(registry, name), ["/bin/sha256sum", "/big"], snapshotter="pagein").split()
    assert words[0] == digest(name)


def store(pageind):
    return pageind.status()["store"]


def test_images_that_nobody_runs_make_room_and_come_back(node, registry):
    pageind, _ = node
    for name in NAMES + NAMES:
        run_once(node, registry, name)
        wait_until(lambda: store(pageind)["bytes"] <= LIMIT, 20, "the store keeps its limit")
    assert store(pageind)["limit_bytes"] == LIMIT
    assert pageind.metric("pagein_store_evicted_layers_total") >= 1
    assert pageind.metric("pagein_read_errors_total") == 0
    pageind.restart()
    wait_until(lambda: store(pageind)["bytes"] <= LIMIT, 20, "the next daemon keeps it too")


def test_what_running_containers_read_is_right_though_it_does_not_fit(node, registry):
    pageind, containerd = node
    running = {}
    for name in NAMES:
        Pagein().run("pull", "-a", containerd.address, "-n", containerd.namespace, reference(registry, name))
        running[name] = containerd.run_detached(reference(registry, name), ["/bin/sleep", "1000"], snapshotter="pagein")
    for _ in range(2):
        for name, container in running.items():
            assert containerd.exec(container, ["/bin/sha256sum", "/big"]).split()[0] == digest(name)
        drop_caches()
    assert store(pageind)["bytes"] <= LIMIT * 1.1, "what file systems round up is found out later"
    assert pageind.metric("pagein_store_evicted_layers_total") == 0, "a mounted layer stays"
    assert pageind.metric("pagein_store_full_total") > 0
    pageind.wait_log("the store is full")
    # One goes, and with it the want of room.
    containerd.kill(running["one"])
    wait_until(pageind.complete, 60, "the others are complete")


def test_gc_evicts_down_to_what_it_is_told_but_no_mounted_layer(node, registry):
    pageind, containerd = node
    run_once(node, registry, "one")
    run_once(node, registry, "two")
    container = containerd.run_detached(reference(registry, "two"), ["/bin/sleep", "1000"], snapshotter="pagein")
    wait_until(pageind.complete, 60, "its image is complete")
    before = store(pageind)["bytes"]
    result = Pagein().json("gc", "--socket", pageind.control, "--max-bytes", "1MB")
    assert result["evicted_layers"] >= 1 and result["evicted_bytes"] >= 8 * MIB
    assert result["bytes"] == store(pageind)["bytes"] == before - result["evicted_bytes"]
    assert result["bytes"] > 8 * MIB
    drop_caches()
    assert containerd.exec(container, ["/bin/sha256sum", "/big"]).split()[0] == digest("two")
    assert "0 layers removed, 0 evicted" in Pagein().text("gc", "--socket", pageind.control)
    run_once(node, registry, "one")


def test_gc_says_what_it_cannot_understand(node):
    pageind, _ = node
    done = Pagein().run("gc", "--socket", pageind.control, "--max-bytes", "many", check=False)
    assert done.returncode != 0 and "many" in done.stderr
