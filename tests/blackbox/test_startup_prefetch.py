"""A startup pack brings what a start reads before it is read; whatever is wrong with it, reads go on without it."""

import contextlib
import time

import pytest

from testbed import (
    Containerd, CorruptByte, FaultProxy, Hang, Pagein, Pageind, Registry, StatusCode, Truncate, WholeBlob, drop_caches,
    lazy, wait_until)
from testbed.fixtures import require
from testbed.push import push_image

MIB = 1 << 20
# A pack has at most a tenth of its image.
FILES = {"first": lazy.text_bytes(300_000, 1), "filler": lazy.text_bytes(8 * MIB, 2),
         "second": lazy.text_bytes(200_000, 3), "other": lazy.text_bytes(8 * MIB, 4)}
WANTED = ["second", "first"]


class Image:
    """An accelerated image `app` with a pack of WANTED."""

    def __init__(self, registry):
        self.registry = registry
        manifest, self.digest = lazy.image_manifest(registry, "app")
        self.pack = manifest["annotations"]["io.pagein.startup.digest"]
        self.pack_bytes = int(manifest["annotations"]["io.pagein.startup.size"])


@pytest.fixture(scope="module")
def image(images):
    require(Registry, Pagein, Pageind)
    with Registry() as registry, lazy.folder("layout") as folder:
        layout = lazy.make_layout(folder, [FILES], images("small"))
        push_image(layout, "latest", registry, "app")
        wanted = folder / "wanted"
        wanted.write_text("".join(f"/{name}\n" for name in WANTED))
        Pagein().run("convert", "--no-cache", "--prefetch-list", wanted, registry.ref("app"))
        yield Image(registry)


@pytest.fixture
def proxy(image):
    with FaultProxy(image.registry) as started:
        yield started


@contextlib.contextmanager
def daemon(registry, **fetch):
    config = {"fetch": {"background": False, **fetch}, "trust": {"repositories": [registry.address + "/*"]}}
    with Pageind(config) as started:
        yield started


def pack_of(pageind):
    packs = pageind.status()["startup_packs"]
    return packs[-1] if packs else None


def wait_pack(pageind, timeout=20):
    wait_until(lambda: pack_of(pageind) and pack_of(pageind)["state"] != "loading", timeout, "the pack has ended")
    return pack_of(pageind)


def assert_right(point, names=FILES):
    for name in names:
        assert lazy.read(point / name) == lazy.sha256(FILES[name]), name


def test_a_start_reads_what_the_pack_brought(image):
    with daemon(image.registry) as pageind:
        mark = image.registry.mark()
        point = lazy.mount(pageind, image.registry.ref("app", lazy.ACCELERATED))
        pack = wait_pack(pageind)
        assert pack["state"] == "done", pack
        assert pack["manifest"] == image.digest and pack["spans"] > 0
        assert pack["received_bytes"] == image.pack_bytes
        requests = [a for a in image.registry.accesses(mark) if image.pack in a.path]
        assert len(requests) == 1, "one sequential read"

        assert_right(point, WANTED)
        assert pageind.status()["fetched_bytes"]["demand"] == 0, "nothing was left to fetch"
        reads = pageind.status()["startup_reads"]
        assert reads["hits"] > 0 and reads["misses"] == 0
        assert pageind.metric("pagein_startup_packs_total") == 1
        assert pageind.metrics()['pagein_fetch_spans_total{class="prefetch"}'] >= pack["spans"]

        assert_right(point)
        assert pageind.status()["startup_reads"]["misses"] > 0


def test_a_second_mount_loads_nothing_again(image):
    with daemon(image.registry) as pageind:
        ref = image.registry.ref("app", lazy.ACCELERATED)
        lazy.mount(pageind, ref)
        assert wait_pack(pageind)["state"] == "done"
        mark = image.registry.mark()
        lazy.mount(pageind, ref, name="again")
        assert not [a for a in image.registry.accesses(mark) if image.pack in a.path]


def test_switched_off(image):
    with daemon(image.registry, startup_pack=False) as pageind:
        mark = image.registry.mark()
        point = lazy.mount(pageind, image.registry.ref("app", lazy.ACCELERATED))
        assert_right(point, WANTED)
        assert pageind.status()["startup_packs"] == []
        assert not [a for a in image.registry.accesses(mark) if image.pack in a.path]


@pytest.mark.parametrize("fault", [StatusCode(404), StatusCode(500), CorruptByte(50), CorruptByte(100_000),
                                   Truncate(1000), Truncate(60_000)], ids=repr)
def test_a_pack_that_fails_is_forgotten(image, proxy, fault):
    proxy.add(fault, digest=image.pack)
    with daemon(image.registry) as pageind:
        point = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED))
        assert_right(point)
        pack = wait_pack(pageind, timeout=60)
        assert pack["state"] == "failed" and pack["why"], pack
        assert pageind.metric("pagein_startup_failures_total") == 1
        assert pageind.metric("pagein_read_errors_total") == 0
        assert pageind.log_text().count("startup pack is of no use") == 1


def test_a_host_that_ignores_ranges_gives_the_whole_pack(image, proxy):
    proxy.add(WholeBlob(), digest=image.pack)
    with daemon(image.registry) as pageind:
        point = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED))
        assert wait_pack(pageind)["state"] == "done"
        assert_right(point)


def test_demand_does_not_wait_for_a_pack_that_hangs(image, proxy):
    proxy.add(Hang(after=20_000), digest=image.pack)
    with daemon(image.registry) as pageind:
        point = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED))
        begin = time.monotonic()
        assert_right(point)
        assert time.monotonic() - begin < 5
        assert pack_of(pageind)["state"] == "loading" or time.monotonic() - begin > 4
        pack = wait_pack(pageind, timeout=30)
        assert pack["state"] == "failed" and "nothing more comes" in pack["why"]


def test_an_unmount_and_a_restart_drop_a_pack_that_is_being_loaded(image, proxy):
    proxy.add(Hang(after=20_000), digest=image.pack)
    with daemon(image.registry) as pageind:
        ref = proxy.ref("app", lazy.ACCELERATED)
        point = lazy.mount(pageind, ref)
        assert pack_of(pageind)["state"] == "loading"
        lazy.umount(pageind, point)
        assert pack_of(pageind)["state"] == "cancelled"

        point = lazy.mount(pageind, ref)
        wait_until(lambda: pack_of(pageind)["state"] == "loading", 10, "it is loaded anew")
        pageind.restart()
        assert pageind.status()["startup_packs"] == []
        assert_right(point)


def test_a_pull_loads_the_pack_before_the_container_starts(image):
    require(Containerd)
    with daemon(image.registry) as pageind, Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        ref = image.registry.ref("app", lazy.ACCELERATED)
        Pagein().run("pull", "-a", containerd.address, "-n", containerd.namespace, ref)
        pack = wait_pack(pageind)
        assert pack["state"] == "done" and pack["image"] == ref
        drop_caches()
        said = containerd.run(ref, ["/bin/sha256sum", "/first", "/second"], snapshotter="pagein")
        for name in WANTED:
            assert lazy.sha256(FILES[name]) in said
        assert pageind.status()["startup_reads"]["hits"] > 0
