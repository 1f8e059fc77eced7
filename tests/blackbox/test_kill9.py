"""A daemon that crashes or restarts is a pause for those who read, never an error and never wrong bytes."""

import errno

import pytest

from testbed import Containerd, FaultProxy, Hang, Pagein, Pageind, Registry, drop_caches, lazy, wait_until
from testbed.fixtures import require
from testbed.process import run_command

MIB = 1 << 20
FILES = {"big": lazy.text_bytes(8 * MIB, 4)}
BIG = lazy.sha256(FILES["big"])
MOUNTS = 20


@pytest.fixture(scope="module")
def images_in_registry(images):
    """(registry, layer descriptor of `app`); `many0`... are further images, of their own content each."""
    require(Registry, Pagein, Pageind)
    with Registry() as registry:
        with lazy.folder("layout") as folder:
            layers = lazy.push_accelerated(lazy.make_layout(folder, [FILES], images("small")), registry, "app")
        for number in range(MOUNTS):
            with lazy.folder("layout") as folder:
                lazy.push_accelerated(lazy.make_layout(folder, [many_files(number)]), registry, f"many{number}")
        yield registry, layers[-1]


def many_files(number):
    return {"data": lazy.text_bytes(MIB, 100 + number)}


@pytest.fixture
def proxy(images_in_registry):
    with FaultProxy(images_in_registry[0]) as started:
        yield started


@pytest.fixture
def pageind(proxy):
    with Pageind({"fetch": {"deadline_seconds": 60, "background": False},
                  "trust": {"repositories": [proxy.address + "/*"]}}) as started:
        yield started


def crash(pageind):
    pageind.kill9()


def terminate(pageind):
    assert pageind.stop() == 0


@pytest.mark.parametrize("end", [crash, terminate])
def test_a_pending_read_gets_its_bytes_from_the_next_daemon(images_in_registry, proxy, pageind, end):
    big = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED)) / "big"
    hang = proxy.add(Hang(after=50000), kind="blob", digest=images_in_registry[1]["digest"])
    with lazy.Reader(big) as reader:
        wait_until(lambda: hang.hits > 0, 10, "the read reaches the registry")
        end(pageind)
        assert reader.running()
        proxy.clear()
        pageind.start()
        assert reader.result(40) == BIG
    assert pageind.metric("pagein_read_errors_total") == 0


@pytest.mark.parametrize("end", [crash, terminate])
def test_a_running_container_does_not_notice(images_in_registry, proxy, pageind, end):
    require(Containerd)
    with Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        reference = proxy.ref("app", lazy.ACCELERATED)
        Pagein().run("pull", "-a", containerd.address, "-n", containerd.namespace, reference)
        container = containerd.run_detached(reference, ["/bin/sleep", "1000"], snapshotter="pagein")
        hang = proxy.add(Hang(), kind="blob", digest=images_in_registry[1]["digest"])
        root = f"/proc/{containerd.tasks()[container][0]}/root"
        with lazy.Reader(root + "/big") as reader:
            wait_until(lambda: hang.hits > 0, 10, "the read reaches the registry")
            end(pageind)
            proxy.clear()
            pageind.start()
            assert reader.result(40) == BIG
        drop_caches()
        assert containerd.exec(container, ["/bin/sha256sum", "/big"]).split()[0] == BIG
        containerd.wait_for_snapshotter("pagein")
        words = containerd.run(reference, ["/bin/sha256sum", "/big"], snapshotter="pagein").split()
        assert words[0] == BIG, "a new container works too"


def test_many_mounts_with_a_reader_each(proxy, pageind):
    points = [lazy.mount(pageind, proxy.ref(f"many{number}", lazy.ACCELERATED), f"mnt{number}")
              for number in range(MOUNTS)]
    hang = proxy.add(Hang(), kind="blob")
    readers = [lazy.Reader(point / "data") for point in points]
    try:
        wait_until(lambda: pageind.metric("pagein_read_misses_total") >= MOUNTS and hang.hits > 0, 20,
                   "all reads wait, for the registry too")
        for _ in range(3):
            pageind.kill9()
            pageind.start()
        proxy.clear()
        for number, reader in enumerate(readers):
            assert reader.result(60) == lazy.sha256(many_files(number)["data"])
    finally:
        for reader in readers:
            reader.__exit__()
    for point in points:
        lazy.umount(pageind, point)


def test_again_and_again_while_a_file_is_read(proxy, pageind):
    big = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED)) / "big"
    for turn in range(4):
        with lazy.Reader(big, turn * 2 * MIB, 2 * MIB) as reader:
            pageind.kill9()
            pageind.start()
            expected = lazy.sha256(FILES["big"][turn * 2 * MIB:(turn + 1) * 2 * MIB])
            assert reader.result(40) == expected
    drop_caches()
    assert lazy.read(big) == BIG


def test_an_unmounted_image_is_served_to_its_last_reader_over_a_crash(proxy, pageind):
    """`umount --lazy` by hand and a container that goes while another process still has one of its files open."""
    point = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED))
    with lazy.Reader(point / "big", pause=True) as reader:
        run_command(["umount", "--lazy", point])
        lazy.umount(pageind, point)
        assert len(pageind.manager.stored_names()) == 1
        pageind.kill9()
        pageind.start()
        reader.go()
        assert reader.result(40) == BIG
    wait_until(lambda: not pageind.manager.stored_names(), 20, "the descriptor is given back")
    again = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED))
    assert lazy.read(again / "big") == BIG


def test_without_stored_descriptors_old_readers_fail_and_new_mounts_work(images_in_registry, proxy, pageind):
    big = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED)) / "big"
    hang = proxy.add(Hang(), kind="blob", digest=images_in_registry[1]["digest"])
    with lazy.Reader(big) as reader:
        wait_until(lambda: hang.hits > 0, 10, "the read reaches the registry")
        pageind.kill9()
        pageind.manager.close()
        assert reader.result(20) in (errno.EIO, errno.ENOTCONN, errno.ECONNABORTED)
    proxy.clear()
    pageind.manager = type(pageind.manager)(pageind.folder / "notify")
    pageind.start()
    fresh = lazy.mount(pageind, proxy.ref("many0", lazy.ACCELERATED), "fresh")
    assert lazy.read(fresh / "data") == lazy.sha256(many_files(0)["data"])
    again = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED), "again")
    assert lazy.read(again / "big") == BIG
