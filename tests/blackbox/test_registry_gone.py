"""A registry that goes away: lazy readers wait, fail at the deadline and recover; complete images need it no more."""

import errno
import time

import pytest

from testbed import Containerd, Pagein, Pageind, Registry, drop_caches, lazy, wait_until
from testbed.fixtures import require

DEADLINE = 4
SIZE = 12 << 20
MIB = 1 << 20
FILES = {"big": lazy.text_bytes(SIZE, 3)}


@pytest.fixture
def registry(images):
    """A registry of the test's own with the accelerated image `app` above `small`; may be stopped."""
    require(Registry, Pagein, Pageind)
    with Registry() as started, lazy.folder("layout") as folder:
        lazy.push_accelerated(lazy.make_layout(folder, [FILES], images("small")), started, "app")
        yield started


def config(registry, background):
    return {"fetch": {"deadline_seconds": DEADLINE, "background": background},
            "trust": {"repositories": [registry.address + "/*"]}}


def part(first, length):
    return lazy.sha256(FILES["big"][first:first + length])


def test_readers_fail_at_the_deadline_and_recover(registry):
    with Pageind(config(registry, False)) as pageind:
        big = lazy.mount(pageind, registry.ref("app", lazy.ACCELERATED)) / "big"
        assert lazy.read(big, 0, 4096) == part(0, 4096)
        registry.stop()
        started = time.monotonic()
        assert lazy.read(big, 8 * MIB, 4096, timeout=DEADLINE + 8) == errno.EIO
        assert time.monotonic() - started < DEADLINE + 5
        assert lazy.read(big, 0, 4096) == part(0, 4096), "what is here stays readable"
        registry.start()
        assert lazy.read(big, 8 * MIB, 4096) == part(8 * MIB, 4096)
        assert lazy.read(big) == lazy.sha256(FILES["big"])


def test_a_short_absence_is_only_a_pause(registry):
    patient = config(registry, False)
    patient["fetch"]["deadline_seconds"] = 40
    with Pageind(patient) as pageind:
        big = lazy.mount(pageind, registry.ref("app", lazy.ACCELERATED)) / "big"
        registry.stop()
        failures = pageind.metric("pagein_http_failures_total")
        with lazy.Reader(big) as reader:
            wait_until(lambda: pageind.metric("pagein_http_failures_total") > failures, 10, "a request fails")
            assert reader.running()
            registry.start()
            assert reader.result(40) == lazy.sha256(FILES["big"])


def test_background_loading_goes_on_when_the_registry_is_back(registry):
    slow = config(registry, True)
    slow["fetch"]["background_bytes_per_second"] = 2 * MIB
    with Pageind(slow) as pageind:
        lazy.mount(pageind, registry.ref("app", lazy.ACCELERATED))
        wait_until(lambda: pageind.metric("pagein_fetch_bytes_total") > 0, 10, "loading begins")
        registry.stop()
        assert not pageind.complete()
        registry.start()
        wait_until(pageind.complete, 60, "the image is complete")


def test_a_complete_image_needs_no_registry(registry):
    require(Containerd)
    reference = registry.ref("app", lazy.ACCELERATED)
    with Pageind(config(registry, True)) as pageind, Containerd(snapshotters={"pagein": pageind.address}) as containerd:
        Pagein().run("pull", "-a", containerd.address, "-n", containerd.namespace, reference)
        assert containerd.run(reference, ["/bin/echo", "ok"], snapshotter="pagein") == "ok\n"
        # Loading begins with the first mount; a container has to stay for it.
        holder = containerd.run_detached(reference, ["/bin/sleep", "1000"], snapshotter="pagein")
        wait_until(pageind.complete, 60, "the image is complete")
        registry.stop()
        pageind.restart()
        containerd.wait_for_snapshotter("pagein")
        drop_caches()
        for _ in range(2):
            words = containerd.run(reference, ["/bin/sha256sum", "/big"], snapshotter="pagein").split()
            assert words[0] == lazy.sha256(FILES["big"])
        containerd.kill(holder)
        words = containerd.run(reference, ["/bin/sha256sum", "/big"], snapshotter="pagein").split()
        assert words[0] == lazy.sha256(FILES["big"])
        assert pageind.metric("pagein_read_errors_total") == 0
