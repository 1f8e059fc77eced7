"""A full disk makes page-in slower, not wrong; loading completes once there is room again."""

import contextlib
import errno
import os

import pytest

from testbed import FaultProxy, Pagein, Pageind, Registry, StatusCode, drop_caches, lazy, sweep, wait_until
from testbed.fixtures import require
from testbed.process import find_program, run_command

MIB = 1 << 20
DISK = 64 * MIB
FILES = {"big": lazy.text_bytes(16 * MIB, 7)}
BIG = lazy.sha256(FILES["big"])


@pytest.fixture(scope="module")
def registry():
    require(Registry, Pagein, Pageind)
    with Registry() as started, lazy.folder("layout") as folder:
        lazy.push_accelerated(lazy.make_layout(folder, [FILES]), started, "app")
        yield started


@pytest.fixture
def disk():
    """A folder with a small ext4 of its own on it."""
    if not find_program("mkfs.ext4"):
        pytest.skip("mkfs.ext4 is not installed")
    with lazy.folder("disk") as folder:
        image, point = folder / "image", folder / "fs"
        with open(image, "wb") as file:
            file.truncate(DISK)
        run_command([find_program("mkfs.ext4"), "-q", "-m", "0", image])
        point.mkdir()
        # Its loop device goes with the mount.
        done = run_command(["mount", "-o", "loop", image, point], check=False)
        if done.returncode != 0:
            pytest.skip(f"no loop device: {done.stderr.strip()}")
        yield point


def fill(path, leave):
    """A file that leaves so many bytes of its filesystem free, about."""
    with open(path, "wb") as file:
        free = os.statvfs(path).f_bavail * os.statvfs(path).f_frsize
        os.posix_fallocate(file.fileno(), 0, max(free - leave, 1))


def exhaust(path):
    """A file that takes all the room there is, to the last block."""
    with open(path, "wb", buffering=0) as file:
        for size in (MIB, 4096):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


def config(disk, background):
    return {"root": str(disk / "root"), "fetch": {"deadline_seconds": 20, "background": background}}


def test_reads_are_right_while_the_disk_is_full(registry, disk):
    with Pageind(config(disk, False)) as pageind:
        big = lazy.mount(pageind, registry.ref("app", lazy.ACCELERATED)) / "big"
        assert lazy.read(big, 0, MIB) == lazy.sha256(FILES["big"][:MIB])
        fill(disk / "ballast", 4 * MIB)
        assert lazy.read(big) == BIG
        drop_caches()
        assert lazy.read(big) == BIG
        assert pageind.metric("pagein_store_full_total") > 0
        assert pageind.metric("pagein_read_errors_total") == 0
        (disk / "ballast").unlink()
        drop_caches()
        assert lazy.read(big) == BIG
        drop_caches()
        fetched = pageind.metric("pagein_fetch_bytes_total")
        assert lazy.read(big) == BIG
        assert pageind.metric("pagein_fetch_bytes_total") == fetched, "all of it is stored now"
    # Before the fixture unmounts it.
    sweep.unmount_below(disk / "root")


def test_background_loading_completes_when_there_is_room_again(registry, disk):
    with Pageind(config(disk, True)) as pageind:
        fill(disk / "ballast", 6 * MIB)
        big = lazy.mount(pageind, registry.ref("app", lazy.ACCELERATED)) / "big"
        wait_until(lambda: pageind.metric("pagein_store_full_total") > 0, 20, "the disk is full")
        assert lazy.read(big) == BIG
        assert not pageind.complete()
        (disk / "ballast").unlink()
        # The load rests up to a minute between its tries.
        wait_until(pageind.complete, 120, "the image is complete")
        drop_caches()
        assert lazy.read(big) == BIG
        assert "complete" in Pagein().text("status", "--socket", pageind.control)
        assert pageind.metric("pagein_read_errors_total") == 0
    sweep.unmount_below(disk / "root")


def test_a_crash_on_a_full_disk_while_an_image_loads(registry, disk):
    with Pageind(config(disk, True)) as pageind:
        fill(disk / "ballast", 6 * MIB)
        big = lazy.mount(pageind, registry.ref("app", lazy.ACCELERATED)) / "big"
        wait_until(lambda: pageind.metric("pagein_store_full_total") > 0, 20, "the disk is full")
        exhaust(disk / "more")
        with lazy.Reader(big, pause=True) as reader:
            pageind.kill9()
            reader.go()
            pageind.start()
            assert reader.result(60) == BIG, "who has the file open waits for the next daemon"
        drop_caches()
        assert lazy.read(big) == BIG, "what has no room is passed through"
        assert pageind.metric("pagein_read_errors_total") == 0
        for name in ("ballast", "more"):
            (disk / name).unlink()
        wait_until(pageind.complete, 120, "the image is complete")
        drop_caches()
        assert lazy.read(big) == BIG
        assert pageind.stop() == 0
        pageind.start()
        assert pageind.complete()
        assert lazy.read(big) == BIG
    sweep.unmount_below(disk / "root")


def test_a_restart_on_a_full_disk_with_the_registry_gone(registry, disk):
    with FaultProxy(registry) as proxy, Pageind(config(disk, False)) as pageind:
        big = lazy.mount(pageind, proxy.ref("app", lazy.ACCELERATED)) / "big"
        assert lazy.read(big, 0, 2 * MIB) == lazy.sha256(FILES["big"][:2 * MIB])
        exhaust(disk / "more")
        pageind.kill9()
        proxy.add(StatusCode(500))
        pageind.start()
        drop_caches()
        assert lazy.read(big, 8 * MIB, MIB) == errno.EIO, "an error, within the deadline"
        pageind.wait_log("500")
        proxy.clear()
        assert lazy.read(big) == BIG
    sweep.unmount_below(disk / "root")


def test_after_a_reboot_on_a_full_disk_images_are_mounted_again(registry, disk):
    """At once where that needs no room, else when there is some."""
    with Pageind(config(disk, False)) as pageind:
        point = lazy.mount(pageind, registry.ref("app", lazy.ACCELERATED))
        assert lazy.read(point / "big", 0, MIB) == lazy.sha256(FILES["big"][:MIB])
        exhaust(disk / "more")
        pageind.kill9()
        sweep.unmount_below(pageind.folder)
        sweep.unmount_below(disk / "root")
        pageind.manager.close()
        pageind.manager = type(pageind.manager)(pageind.folder / "notify")
        pageind.start()
        assert [mount["dir"] for mount in pageind.status()["manual_mounts"]] == [str(point)]
        if os.path.ismount(point):
            assert lazy.read(point / "big", 0, 2 * MIB) == lazy.sha256(FILES["big"][:2 * MIB])
        (disk / "more").unlink()
        wait_until(lambda: os.path.ismount(point), 90, "the image is mounted again")
        assert lazy.read(point / "big") == BIG
    sweep.unmount_below(disk / "root")
